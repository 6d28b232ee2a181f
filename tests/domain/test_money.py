"""Rounding happens in one place, once, on the sum (law 7)."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.money import itemise_micro_usd, total_micro_usd

rates = st.integers(0, 10**18)
durations = st.integers(1, 10**9)


@given(rates, durations)
def test_total_is_the_exact_product_rounded_half_up(rate: int, duration_s: int) -> None:
    exact = Fraction(rate * duration_s, 3_600)
    assert total_micro_usd(rate, duration_s) == (exact + Fraction(1, 2)).__floor__()


@given(st.lists(rates, max_size=20), durations)
def test_lines_sum_to_the_total_and_each_is_within_one_micro_dollar(parts: list[int], duration_s: int) -> None:
    lines = itemise_micro_usd(parts, duration_s)
    assert sum(lines) == total_micro_usd(sum(parts), duration_s)
    assert all(
        abs(line - Fraction(part * duration_s, 3_600)) <= 1 for line, part in zip(lines, parts, strict=True)
    )


@given(rates, rates, durations, durations)
def test_more_gpus_or_hours_never_cost_less(rate: int, more: int, duration_s: int, longer_s: int) -> None:
    assert total_micro_usd(rate + more, duration_s + longer_s) >= total_micro_usd(rate, duration_s)
