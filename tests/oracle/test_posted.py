"""The laws of smoothing: the hourly limit, the bounds, the order along dominance."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.oracle.dominance import opened, raised
from engine.oracle.parameters import OracleParameters
from engine.oracle.posted import next_bound, next_long_run, next_posted
from tests.oracle.small_markets import ints

PARAMETERS = OracleParameters()
PRICE = st.integers(1_000, 10**9)
ANY_PRICE = st.integers(0, 10**11)
HOUR = 12
"""Epochs per hour."""


@st.composite
def bounded(draw: st.DrawFn) -> tuple[int, int, int]:
    """(floor, posted, cap), in order."""
    low, middle, high = sorted(draw(st.tuples(PRICE, PRICE, PRICE)))
    return low, middle, high


@settings(max_examples=50)
@given(bounded(), st.lists(st.tuples(ANY_PRICE, PRICE, PRICE), min_size=HOUR, max_size=HOUR))
def test_posted_price_changes_by_at_most_c_per_hour(start: tuple[int, int, int], epochs: list) -> None:
    """Law: |Δ posted| <= c, exactly: within a factor (9/8)^±1 per hour, whatever prices and bounds do."""
    floor, posted, cap = start
    first = posted
    for clearing, floor_target, cap_target in epochs:
        floor = next_bound(floor, floor_target, PARAMETERS)
        cap = next_bound(cap, max(cap_target, floor_target), PARAMETERS)
        posted = next_posted(posted, clearing, floor, cap, PARAMETERS)
        assert floor <= posted <= cap
    assert 8 * posted <= 9 * first and 8 * first <= 9 * posted


@given(st.lists(bounded(), min_size=1, max_size=6), st.lists(st.tuples(ANY_PRICE, PRICE, PRICE), min_size=6))
def test_posted_price_stays_within_floor_and_cap(starts: list, moves: list) -> None:
    """Law: floor <= posted <= cap after every epoch, for arrays as for numbers."""
    floor, posted, cap = (ints(column) for column in zip(*starts, strict=True))
    clearing, low, high = (ints(column)[: posted.size] for column in zip(*moves, strict=True))
    floor_after = next_bound(floor, np.minimum(low, high), PARAMETERS)
    cap_after = next_bound(cap, np.maximum(low, high), PARAMETERS)
    after = next_posted(posted, clearing, floor_after, cap_after, PARAMETERS)
    assert (floor_after <= after).all() and (after <= cap_after).all()
    one_by_one = [
        next_posted(*row, PARAMETERS)
        for row in zip(*(each.tolist() for each in (posted, clearing, floor_after, cap_after)), strict=True)
    ]
    assert after.tolist() == one_by_one


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), min_size=5, max_size=5))
def test_smoothing_keeps_dominance(pairs: list[tuple[int, int]]) -> None:
    """Law: prices, bounds and clearing prices that are in order before an epoch leave it in order."""
    (posted, more_posted), (clearing, more_clearing), (floor, more_floor), (cap, more_cap), (run, more_run) = pairs
    worse = next_posted(posted + 1_000, clearing, floor, max(cap, floor), PARAMETERS)
    better = next_posted(
        posted + 1_000 + more_posted,
        clearing + more_clearing,
        floor + more_floor,
        max(cap + more_cap, floor + more_floor),
        PARAMETERS,
    )
    assert worse <= better
    assert next_bound(floor + 1_000, clearing, PARAMETERS) <= next_bound(
        floor + 1_000 + more_floor, clearing + more_clearing, PARAMETERS
    )
    better_run = next_long_run(run + more_run, posted + more_posted, PARAMETERS)
    assert next_long_run(run, posted, PARAMETERS) <= better_run


@given(PRICE, PRICE)
def test_prices_reach_what_they_move_to(posted: int, target: int) -> None:
    """Law: no rounding keeps a price from its target: each step goes nearer, never past it."""
    for after in (
        next_posted(posted, target, 1, 10**12, PARAMETERS),
        next_long_run(posted, target, PARAMETERS),
    ):
        assert after == target or abs(target - after) < abs(target - posted)
        assert min(posted, target) <= after <= max(posted, target)


CHAINS = st.lists(st.lists(st.tuples(PRICE, PRICE, st.booleans()), min_size=1, max_size=4), min_size=1, max_size=3)


@given(CHAINS)
def test_new_markets_open_in_order_beside_known_ones(chains: list) -> None:
    """Law: where a market joins, dominance holds at once, and no known price is touched."""
    lower, known, opening = [], [], []
    for chain in chains:
        prices, openings = sorted(row[0] for row in chain), sorted(row[1] for row in chain)
        for tier, (price, opens, (_, _, is_known)) in enumerate(zip(prices, openings, chain, strict=True)):
            lower.append(len(known) - 1 if tier else -1)
            known.append(price if is_known else -1)
            opening.append(opens)
    lower, known = ints(lower), ints(known)
    result = opened(known, ints(opening), lower)
    assert (result[known >= 0] == known[known >= 0]).all()
    assert (raised(result, lower) == result).all()
