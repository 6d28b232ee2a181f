"""Peers of shared GPUs against slow twins of their published descriptions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.peers.sharing import sharing_peers
from benchmarks.peers.sharing_rules import typical_pods
from engine.backtest.sharing_trace import SharingTrace
from solvers.sharing.fleet import CARD_MILLI, NOWHERE, SharedFleet
from tests.backtest.sharing_worlds import small_trace
from tests.full_size import size
from tests.solvers.sharing.small_fleets import places_of

WORLDS = size(3, 60)
TypicalPod = tuple[int, int, int, tuple[bool, ...], float]


def _typical(trace: SharingTrace) -> list[TypicalPod]:
    """(cpu, gpus, milli, models, share): most frequent first, until 95 % of all pods are counted."""
    shapes, counts = trace.shapes, dict[tuple[int, int, int, tuple[bool, ...]], int]()
    for kind in trace.pods.tolist():
        pod = (int(shapes.cpu_milli[kind]), int(shapes.gpus[kind]), int(shapes.gpu_milli[kind]))
        key = (*pod, tuple(shapes.models[kind].tolist()))
        counts[key] = counts.get(key, 0) + 1
    ranked = sorted(counts, key=lambda k: (-counts[k], -k[0], -k[2], -k[1]))
    kept: list[tuple[int, int, int, tuple[bool, ...]]] = []
    while sum(counts[k] for k in kept) < 0.95 * trace.pods.size:
        kept.append(ranked[len(kept)])
    seen = sum(counts[k] for k in kept)
    return [(*k, counts[k] / seen) for k in kept]


def _fragmentation(typical: list[TypicalPod], cards: list[int], cpu: int, model: int) -> float:
    lost = 0.0
    for pod_cpu, gpus, milli, models, share in typical:
        room = sum(left >= milli for left in cards)
        if gpus == 0 or pod_cpu > cpu or not models[model] or room < gpus:
            lost += share * sum(cards)
        else:
            lost += share * sum(left for left in cards if left < milli)
    return lost


class _Twin:
    """Scores by the descriptions, on lists."""

    def __init__(self, trace: SharingTrace, fleet: SharedFleet) -> None:
        self.shapes, self.fleet, self.typical = trace.shapes, fleet, _typical(trace)

    def score(self, rule: str, shape: int, node: int, card: int) -> int:
        cards = self.fleet.card_left[node, : self.fleet.machines.gpus[node]].tolist()
        cpu_left, cpu = int(self.fleet.cpu_left[node]), int(self.shapes.cpu_milli[shape])
        gpus, milli = int(self.shapes.gpus[shape]), int(self.shapes.gpu_milli[shape])
        if rule == "dot product":
            dot = cpu_left / 128_000 * (cpu / 128_000) + sum(cards) / 8_000 * (gpus * milli / 8_000)
            return int(100 * (1 - dot / 2))
        if rule == "best fit":
            free_cpu, free_gpu = (cpu_left - cpu) / 128_000, (sum(cards) - gpus * milli) / 8_000
            return int((1 - 0.5 * free_cpu - 0.5 * free_gpu) * 100)
        if rule == "gpu packing":
            return self._packing(cards, gpus, card)
        after = cards.copy()
        if card >= 0:
            after[card] -= milli
        else:
            for free in [place for place, left in enumerate(cards) if left == CARD_MILLI][:gpus]:
                after[free] = 0
        model = int(self.fleet.machines.model[node])
        gain = _fragmentation(self.typical, cards, cpu_left, model)
        gain -= _fragmentation(self.typical, after, cpu_left - cpu, model)
        return int(100 / (1 + math.exp(-gain / 1_000)))

    @staticmethod
    def _packing(cards: list[int], gpus: int, card: int) -> int:
        free = cards.count(CARD_MILLI)
        if gpus == 0:
            return 0
        if free == len(cards):
            return max(33 - free, free)
        if card >= 0 and cards[card] < CARD_MILLI:
            return max(100 - cards[card] * 100 // 1_000 // 10, 50)
        return max(50 - gpus, 33)

    def choice(self, rule: str, shape: int) -> tuple[int, int]:
        """FGD takes the best card; the others the tightest. Then the first node of the best score."""
        best: dict[int, tuple[int, int]] = {}
        for node, card in places_of(self.shapes, self.fleet, shape):
            scored = (self.score(rule, shape, node, card), card)
            left = [int(self.fleet.card_left[node, c]) for c in (card, best.get(node, scored)[1])]
            better = scored[0] > best[node][0] if rule == "fgd" and node in best else left[0] < left[1]
            if node not in best or better:
                best[node] = scored
        if not best:
            return NOWHERE, -1
        node = max(best, key=lambda n: (best[n][0], -n))
        return node, best[node][1]


@pytest.mark.parametrize("rule", ["dot product", "gpu packing", "best fit", "fgd"])
@settings(max_examples=WORLDS)
@given(st.integers(0, 1_000))
def test_a_peer_does_what_its_description_says(rule: str, seed: int) -> None:
    """Law: pod by pod, the kernel's choice is that of the slow twin."""
    trace = small_trace(seed)
    fleet = SharedFleet(trace.machines)
    peer, twin = sharing_peers(seed)[rule](trace.shapes, fleet, trace.counts()), _Twin(trace, fleet)
    for shape in trace.arrivals(seed, 1.2).tolist():
        chosen = peer.choose(shape)
        assert chosen == twin.choice(rule, shape)
        if chosen[0] != NOWHERE:
            fleet.take(trace.shapes, shape, *chosen)
            peer.took(chosen[0])


@settings(max_examples=WORLDS)
@given(st.integers(0, 1_000))
def test_typical_pods_are_those_of_the_twin(seed: int) -> None:
    """Law: the same pods with the same shares make up 95 % of the workload."""
    trace = small_trace(seed)
    cpu, gpus, milli, models, share = typical_pods(trace.shapes.arrays(), trace.counts())
    columns = (cpu.tolist(), gpus.tolist(), milli.tolist(), map(tuple, models.tolist()), share.tolist())
    found, told = sorted(zip(*columns, strict=True)), sorted(_typical(trace))
    assert sum(share) == pytest.approx(1.0)
    assert sorted(pod[4] for pod in found) == pytest.approx(sorted(pod[4] for pod in told))
