"""The replay of shared GPUs: laws of the stream and of every policy's placements, and faults that are found."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backtest.sharing_replay import TILED_TO, Played, play
from engine.backtest.sharing_runs import OURS, POLICIES, make_policy
from engine.backtest.sharing_trace import SharingTrace
from solvers.sharing.fleet import NOWHERE
from tests.backtest.sharing_checker import faults
from tests.backtest.sharing_worlds import small_trace
from tests.full_size import size

WORLDS = size(3, 60)


def _played(trace: SharingTrace, policy: str, seed: int) -> Played:
    return play(trace, make_policy(policy, seed), trace.arrivals(seed, TILED_TO))


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=WORLDS)
@given(st.integers(0, 1_000))
def test_placements_keep_every_rule(policy: str, seed: int) -> None:
    """Law: cards, CPU, memory and models hold after every pod; only what fits nowhere is refused; shares never
    fall as demand arrives.
    """
    trace = small_trace(seed)
    played = _played(trace, policy, seed)
    assert faults(trace, played) == []
    shares = [played.share_at(level) for level in range(131)]
    assert all(low <= high for low, high in pairwise(shares))
    assert 0.5 < shares[-1] <= 1.0


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_bytes(policy: str) -> None:
    """Law: a policy's placements depend on its seed and on nothing else."""
    first, again = (_played(small_trace(3), policy, 5) for _ in range(2))
    assert first.node.tobytes() == again.node.tobytes() and first.cards.tobytes() == again.cards.tobytes()
    assert first.placed_milli.tobytes() == again.placed_milli.tobytes()


@settings(max_examples=WORLDS)
@given(st.integers(0, 1_000), st.sampled_from([0.5, 1.0, 1.3, 2.0]))
def test_the_stream_is_the_trace_shuffled_and_then_tiled(seed: int, ratio: float) -> None:
    """Law: first all pods of the trace in some order, then draws of them until the demand is there; by seed."""
    trace = small_trace(seed)
    arrivals = trace.arrivals(seed, ratio)
    assert sorted(arrivals[: trace.pods.size].tolist()) == sorted(trace.pods.tolist())
    assert arrivals.tobytes() == trace.arrivals(seed, ratio).tobytes()
    asked = np.cumsum(trace.shapes.gpu_milli_each()[arrivals])
    over = asked[trace.pods.size :] - ratio * trace.capacity_milli
    assert (over <= 7_000).all()
    assert asked[-1] > ratio * trace.capacity_milli - 8_000


def test_a_policy_learns_nothing_but_what_arrived() -> None:
    """Law: what comes later changes no earlier placement of ours."""
    trace = small_trace(1)
    arrivals = trace.arrivals(1, TILED_TO)
    whole = play(trace, make_policy(OURS, 1), arrivals)
    part = play(trace, make_policy(OURS, 1), arrivals[:40])
    assert whole.node[:40].tobytes() == part.node.tobytes()


@pytest.fixture(scope="module")
def trace() -> SharingTrace:
    return small_trace(2)


@pytest.fixture(scope="module")
def played(trace: SharingTrace) -> Played:
    return _played(trace, OURS, 2)


class TestPlantedFaults:
    """Each law's check can fail: a replay that is right, spoilt in one place, is found out."""

    def test_a_refused_pod_that_fits(self, trace: SharingTrace, played: Played) -> None:
        node = played.node.copy()
        node[0] = NOWHERE
        assert any("fits" in fault for fault in faults(trace, replace(played, node=node)))

    def test_two_pods_on_one_card(self, trace: SharingTrace, played: Played) -> None:
        whole = np.flatnonzero((trace.shapes.gpu_milli_each()[played.kind] == 1_000) & (played.node != NOWHERE))
        node, cards = played.node.copy(), played.cards.copy()
        node[whole[1]], cards[whole[1]] = node[whole[0]], cards[whole[0]]
        assert any("card exceeded" in fault for fault in faults(trace, replace(played, node=node, cards=cards)))

    def test_everything_on_one_node(self, trace: SharingTrace, played: Played) -> None:
        found = faults(trace, replace(played, node=np.zeros_like(played.node)))
        assert any("CPU exceeded" in fault for fault in found)
        assert any("memory exceeded" in fault for fault in found)
        assert any("model not accepted" in fault for fault in found)

    def test_a_pod_with_too_few_cards(self, trace: SharingTrace, played: Played) -> None:
        several = np.flatnonzero((trace.shapes.gpus[played.kind] > 1) & (played.node != NOWHERE))
        cards = played.cards.copy()
        cards[several[0]] = 1
        assert any("wrong number" in fault for fault in faults(trace, replace(played, cards=cards)))

    def test_a_count_that_is_off(self, trace: SharingTrace, played: Played) -> None:
        spoilt = replace(played, placed_milli=played.placed_milli + 10)
        assert any("miscounted" in fault for fault in faults(trace, spoilt))


def test_a_share_is_the_mean_at_its_level() -> None:
    """Law: the share at a level is the mean over arrivals that round to it, as published."""
    zeros = np.zeros(4, dtype=np.int64)
    played = Played(zeros, np.array([994, 996, 1_004, 1_006]), np.array([1, 3, 5, 7]), zeros, zeros, 1_000)
    assert played.share_at(100) == pytest.approx(0.004)
    assert played.share_at(50) == 0.0, "nothing had come"
    assert played.share_at(130) == pytest.approx(0.007), "where no arrival is, what stood before"
