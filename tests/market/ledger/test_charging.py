"""What a span charges, to whom, as pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.money import elapsed_micro_usd, part_micro_usd, split_micro_usd
from engine.market.ledger import accounts
from engine.market.ledger.charging import charged_micro_usd, parts_at_close, parts_due, started_s
from engine.market.ledger.entries import Span

START_US, SECOND_US = 1_000_000, 1_000_000
amounts = st.integers(0, 2**62) | st.integers(0, 50)
weights = st.lists(st.integers(0, 10**18) | st.integers(0, 5), min_size=1, max_size=9).filter(any)
ppm = st.sampled_from((0, 1, 50_000, 333_333)) | st.integers(0, 250_000)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    own = draw(weights)
    length_s = draw(st.integers(1, 10_000_000) | st.integers(1, 5))
    names = [f"s{place}" for place in range(len(own))]
    to_us = START_US + length_s * SECOND_US
    parts = draw(ppm), draw(ppm), draw(ppm)
    if sum(parts) > 1_000_000:
        parts = 50_000, 0, 0
    return Span("l", "alice", START_US, to_us, draw(amounts), draw(st.integers(0, 10**6)), names, own, *parts)


@given(amounts, weights)
def test_split_adds_up_and_is_fair(amount: int, own: Sequence[int]) -> None:
    """Law: parts sum to the amount, and none is a micro-dollar or more from its exact share."""
    parts = split_micro_usd(amount, own)
    assert sum(parts) == amount
    for part, weight in zip(parts, own, strict=True):
        assert abs(part - Fraction(amount * weight, sum(own))) < 1


@given(amounts, st.integers(1, 10**8), st.data())
def test_elapsed_grows_to_the_whole(amount: int, duration_s: int, data: st.DataObject) -> None:
    """Law: what is due never falls as time passes; it starts at 0, ends at all, and is half up in between."""
    early, late = sorted(data.draw(st.tuples(*[st.integers(0, duration_s)] * 2)))
    first, second = elapsed_micro_usd(amount, early, duration_s), elapsed_micro_usd(amount, late, duration_s)
    assert 0 <= first <= second <= amount
    assert abs(first - Fraction(amount * early, duration_s)) <= Fraction(1, 2)
    assert elapsed_micro_usd(amount, 0, duration_s) == 0
    assert elapsed_micro_usd(amount, duration_s, duration_s) == amount


@given(amounts, st.integers(0, 10**24), st.integers(0, 10**24))
def test_a_part_is_rounded_down(amount: int, part: int, rest: int) -> None:
    """Law: parts of an amount never exceed it together."""
    whole = part + rest
    own, other = part_micro_usd(amount, part, whole), part_micro_usd(amount, rest, whole)
    assert own + other <= amount
    assert amount - own - other <= 1 or whole == 0


@given(spans(), st.integers(0, 11 * 10**12))
def test_seconds_are_charged_once_they_start(span: Span, after_us: int) -> None:
    """Law: charge per started second; nothing before the start, all at the end, upfront at once."""
    at_us = START_US + after_us
    seconds = started_s(span, at_us)
    assert (seconds - 1) * SECOND_US < min(after_us, span.to_us - START_US) <= seconds * SECOND_US
    assert charged_micro_usd(span, START_US) == span.upfront_micro_usd
    assert charged_micro_usd(span, span.to_us) == span.total_micro_usd
    if after_us:
        whole_us = START_US + seconds * SECOND_US
        assert charged_micro_usd(span, at_us) == charged_micro_usd(span, whole_us)


@given(spans(), st.data())
def test_parts_grow_and_close_exactly(span: Span, data: st.DataObject) -> None:
    """Law: no part ever falls, not even at the close; while it runs the dust is less than a micro-dollar each; at
    the close there is none, and every fee is its share of what is charged, rounded down."""
    early, late = sorted(data.draw(st.tuples(*[st.integers(0, span.total_micro_usd)] * 2)))
    before, after, closed = parts_due(span, early), parts_due(span, late), parts_at_close(span, late)
    assert before.keys() == after.keys() == closed.keys()
    assert all(0 <= before[account] <= after[account] <= closed[account] for account in closed)
    assert 0 <= late - sum(after.values()) < len(after)
    assert sum(closed.values()) == late
    assert closed[accounts.NETWORK_FEE] == late * span.network_fee_ppm // 1_000_000
