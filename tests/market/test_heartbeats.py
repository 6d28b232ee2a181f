"""Heartbeats: lost after enough silence, back after a steady run, and no ping-pong in between."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput
from engine.market.heartbeats import LATE_FACTOR, HeartbeatRules, Heartbeats

S = 1_000_000
RULES = HeartbeatRules(period_s=10, missed_max=3, good_min=4)
NODE = np.array([0])


def changes_of(rules: HeartbeatRules, gaps_ms: list[int], ticks_ms: int) -> list[tuple[str, int]]:
    """(LOST or BACK, when) of one node that sends heartbeats after these gaps; it is looked at every tick."""
    heartbeats, found, is_lost = Heartbeats(rules), list[tuple[str, int]](), False
    beats = np.cumsum(gaps_ms).tolist()
    at, next_beat = 1, 0
    heartbeats.beat(NODE, 1, at * 1_000)
    while next_beat < len(beats) or at < beats[-1] + 1:
        at += ticks_ms
        while next_beat < len(beats) and beats[next_beat] < at:
            heartbeats.beat(NODE, 1, (beats[next_beat] + 1) * 1_000)
            next_beat += 1
        now_us = at * 1_000
        if not is_lost and heartbeats.silent(now_us).size:
            is_lost = True
            found.append(("LOST", now_us))
        elif is_lost and heartbeats.steady(NODE, now_us).size:
            is_lost = False
            found.append(("BACK", now_us))
    return found


rules = st.builds(
    HeartbeatRules,
    period_s=st.sampled_from((1.0, 10.0)),
    missed_max=st.integers(2, 6),
    good_min=st.integers(2, 6),
)


@given(rules, st.lists(st.integers(1, 120_000), min_size=1, max_size=80), st.sampled_from((250, 1_000)))
def test_no_ping_pong(rules: HeartbeatRules, gaps_ms: list[int], tick_ms: int) -> None:
    """Law: however a node flaps, a return takes a steady run and the next loss a whole silence after it."""
    found = changes_of(rules, gaps_ms, tick_ms)
    assert [name for name, _ in found] == [("LOST", "BACK")[place % 2] for place in range(len(found))]
    for (_, before_us), (name, at_us) in pairwise(found):
        if name == "BACK":
            assert at_us - before_us >= (rules.good_min - 1) * rules.period_s * S - tick_ms * 1_000
        else:
            assert at_us - before_us >= (rules.missed_max - LATE_FACTOR) * rules.period_s * S - tick_ms * 1_000


@pytest.mark.parametrize(("gap_s", "ends"), [(10, []), (14, []), (29, []), (33, ["LOST"]), (40, ["LOST"])])
def test_a_node_of_one_rhythm(gap_s: int, ends: list[str]) -> None:
    """Law: a node that is late, but never for three periods, is never lost; one that always is stays lost."""
    found = [name for name, _ in changes_of(RULES, [gap_s * 1_000] * 40, 1_000)]
    assert found == ends


def test_a_burst_is_no_steady_run() -> None:
    """Law: many heartbeats in one period count as one."""
    gaps = [60_000, *([100] * 30), 60_000]
    assert [name for name, _ in changes_of(RULES, gaps, 1_000)] == ["LOST"]


def test_the_law_can_fail() -> None:
    """A planted bug: a return by the first heartbeat is ping-pong, and the law says so."""
    gaps = [40_000] * 10
    eager = HeartbeatRules(period_s=10, missed_max=3, good_min=2)
    object.__setattr__(eager, "good_min", 1)
    found = changes_of(eager, gaps, 1_000)
    assert len(found) > 5
    with pytest.raises(AssertionError):
        assert all(
            later - before >= RULES.steady_us for (_, before), (name, later) in pairwise(found) if name == "BACK"
        )


def test_nobody_is_lost_by_a_restart() -> None:
    """Law: what was watched is watched again, with a whole silence to speak up."""
    heartbeats = Heartbeats(RULES)
    heartbeats.watch(np.array([1]), 3, 100 * S)
    assert heartbeats.silent(130 * S).tolist() == []
    assert heartbeats.silent(131 * S).tolist() == [1]
    assert heartbeats.beat(np.array([1, 2]), 3, 131 * S).tolist() == [2]


def test_bad_rules() -> None:
    """Law 9: every value out of range is named."""
    with pytest.raises(InvalidInput) as error:
        HeartbeatRules(period_s=0, missed_max=0, good_min=0)
    assert [each.field for each in error.value.violations] == ["period_s", "missed_max", "good_min"]
