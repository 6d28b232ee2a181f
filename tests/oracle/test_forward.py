"""The laws of the forward curve: nothing is gained by splitting or chaining, and more never costs less."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.money import total_micro_usd
from engine.oracle.forward import ForwardCurve

PRICE = st.integers(1, 10**9)
SECONDS = st.integers(0, 20 * 24 * 3_600)
CURVES = st.builds(ForwardCurve, PRICE, PRICE, st.sampled_from((1.0, 48.0, 1_000.0)))
ASK = st.integers(0, 10**9)


@given(CURVES, st.lists(SECONDS, min_size=2, max_size=6), ASK)
def test_splitting_and_chaining_change_nothing(curve: ForwardCurve, cuts: list[int], ask: int) -> None:
    """Law: the pieces of an interval cost exactly what the interval costs, in integers."""
    cuts = sorted(cuts)
    pieces = sum(curve.amount_micro_usd(a, b, ask) for a, b in pairwise(cuts))
    assert pieces == curve.amount_micro_usd(cuts[0], cuts[-1], ask)


@given(CURVES, SECONDS, SECONDS, ASK)
def test_amount_is_the_sum_over_hours_by_fraction(curve: ForwardCurve, one: int, other: int, ask: int) -> None:
    """Law: Σ w_h·max(ask, f(h)) to within a micro-dollar, against a sum hour by hour in exact fractions."""
    start, end = sorted((one, other))
    rates = curve.rates(end // 3_600 + 1).tolist()
    exact = sum(
        Fraction(max(0, min(end, 3_600 * (hour + 1)) - max(start, 3_600 * hour)), 3_600) * max(ask, rate)
        for hour, rate in enumerate(rates)
    )
    assert abs(curve.amount_micro_usd(start, end, ask) - exact) <= 1


@given(CURVES, SECONDS, SECONDS, ASK, ASK)
def test_more_time_or_a_higher_ask_never_costs_less(
    curve: ForwardCurve, first: int, more: int, ask: int, raised: int
) -> None:
    """Law: monotone in hours and in the ask."""
    amount = curve.amount_micro_usd(0, first, ask)
    assert 0 <= amount <= curve.amount_micro_usd(0, first + more, ask)
    assert amount <= curve.amount_micro_usd(0, first, ask + raised)


@given(PRICE, PRICE, st.integers(0, 10**6), st.integers(0, 10**6), SECONDS, ASK)
def test_a_better_product_never_costs_less_ahead(
    posted: int, long_run: int, more_posted: int, more_run: int, end: int, ask: int
) -> None:
    """Law: curves keep the order of their posted and long-run prices, hour by hour."""
    worse = ForwardCurve(posted, long_run, 48.0)
    better = ForwardCurve(posted + more_posted, long_run + more_run, 48.0)
    assert (worse.rates(100) <= better.rates(100)).all()
    assert worse.amount_micro_usd(0, end, ask) <= better.amount_micro_usd(0, end, ask)


def test_the_curve_starts_at_posted_and_halves_its_distance() -> None:
    """The first hour costs the posted price; after a half-life half the distance is left."""
    rates = ForwardCurve(3_000_000, 2_000_000, 48.0).rates(97)
    assert (rates[0], rates[48], rates[96]) == (3_000_000, 2_500_000, 2_250_000)


def test_rounding_every_piece_alone_would_not_add_up() -> None:
    """Planted bug: pieces that are each rounded by themselves let a tenant save by splitting."""
    curve = ForwardCurve(1_001, 1_001, 48.0)
    alone = 3_600 * total_micro_usd(1_001, 1)
    assert alone != curve.amount_micro_usd(0, 3_600) == 1_001
    assert sum(curve.amount_micro_usd(second, second + 1) for second in range(3_600)) == 1_001
