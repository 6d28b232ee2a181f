"""The published policies for shared GPUs, as policies of the replay: random, dot product, packing, best fit, FGD.

Each keeps its scores per shape and node and renews those of nodes that changed. FGD knows the mix of the whole
workload beforehand, as in the published runs; the others know nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.sharing_rules import BEST_FIT, DOT_PRODUCT, FGD, GPU_PACKING, RANDOM, score, typical_pods
from solvers.kernel import Arrays, kernel
from solvers.sharing.fleet import NOWHERE, WHOLE, Int, Shapes, SharedFleet, fits

UNFIT = -1


class ScoredPeer:
    """The first node of the highest score."""

    def __init__(self, rule: int, shapes: Shapes, fleet: SharedFleet, count: Int) -> None:
        self._rule, self._shapes, self._fleet = rule, shapes.arrays(), fleet.arrays()
        self._typical = typical_pods(self._shapes, count)
        table = (count.size, fleet.machines.gpus.size)
        self._scores = np.full(table, UNFIT), np.zeros(table, dtype=np.int64), np.full(table, UNFIT)
        self._version = np.zeros(table[1], dtype=np.int64)

    def choose(self, shape: int) -> tuple[int, int]:
        """(node, card), or NOWHERE."""
        self._renew(shape)
        scores, cards, _ = self._scores
        node = int(scores[shape].argmax())
        return (node, int(cards[shape, node])) if scores[shape, node] != UNFIT else (NOWHERE, WHOLE)

    def took(self, node: int) -> None:
        """Scores of this node are stale."""
        self._version[node] += 1

    def _renew(self, shape: int) -> None:
        _renew(self._rule, self._shapes, self._fleet, self._typical, self._scores, self._version, shape)


class RandomPeer(ScoredPeer):
    """Any node that fits, any of its cards that fits, all equally likely."""

    def __init__(self, shapes: Shapes, fleet: SharedFleet, count: Int, seed: int) -> None:
        super().__init__(RANDOM, shapes, fleet, count)
        self._draw = np.random.default_rng((seed, RANDOM))

    def choose(self, shape: int) -> tuple[int, int]:
        """(node, card), or NOWHERE."""
        self._renew(shape)
        nodes = np.flatnonzero(self._scores[0][shape] != UNFIT)
        if nodes.size == 0:
            return NOWHERE, WHOLE
        node = int(self._draw.choice(nodes))
        if self._scores[1][shape, node] == WHOLE:
            return node, WHOLE
        return node, int(self._draw.choice(np.flatnonzero(self._fleet[2][node] >= self._shapes[3][shape])))


def sharing_peers(seed: int) -> dict[str, Callable[[Shapes, SharedFleet, Int], ScoredPeer]]:
    """Policies by name, in the order of the published tables; each takes shapes, fleet and counts of the trace."""
    peers: dict[str, Callable[[Shapes, SharedFleet, Int], ScoredPeer]] = {
        "random": lambda shapes, fleet, count: RandomPeer(shapes, fleet, count, seed)
    }
    for name, rule in (
        ("dot product", DOT_PRODUCT),
        ("gpu packing", GPU_PACKING),
        ("best fit", BEST_FIT),
        ("fgd", FGD),
    ):
        peers[name] = _scored(rule)
    return peers


def _scored(rule: int) -> Callable[[Shapes, SharedFleet, Int], ScoredPeer]:
    return lambda shapes, fleet, count: ScoredPeer(rule, shapes, fleet, count)


@kernel
def _renew(
    rule: int, shapes: Arrays, fleet: Arrays, typical: Arrays, scores: Arrays, version: Int, shape: int
) -> None:
    values, cards, seen = scores
    for node in range(version.size):
        if seen[shape, node] == version[node]:
            continue
        seen[shape, node] = version[node]
        values[shape, node] = UNFIT
        if fits(shapes, fleet, shape, node):
            values[shape, node], cards[shape, node] = score(rule, shapes, fleet, typical, shape, node)
