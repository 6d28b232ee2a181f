"""Who gets what of a charge, as pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.money import part_micro_usd, split_micro_usd
from engine.market.ledger import accounts
from engine.market.ledger.charging import parts_at_close, parts_due
from engine.market.ledger.entries import Span

amounts = st.integers(0, 2**62) | st.integers(0, 50)
weights = st.lists(st.integers(0, 10**18) | st.integers(0, 5), min_size=1, max_size=9).filter(any)
ppm = st.sampled_from((0, 1, 50_000, 333_333)) | st.integers(0, 250_000)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    own = draw(weights)
    parts = draw(ppm), draw(ppm), draw(ppm)
    if sum(parts) > 1_000_000:
        parts = 50_000, 0, 0
    return Span("l", "alice", 0, [f"s{place}" for place in range(len(own))], own, *parts)


@given(amounts, weights)
def test_split_adds_up_and_is_fair(amount: int, own: Sequence[int]) -> None:
    """Law: parts sum to the amount, and none is a micro-dollar or more from its exact share."""
    parts = split_micro_usd(amount, own)
    assert sum(parts) == amount
    for part, weight in zip(parts, own, strict=True):
        assert abs(part - Fraction(amount * weight, sum(own))) < 1


@given(amounts, st.integers(0, 10**24), st.integers(0, 10**24))
def test_a_part_is_rounded_down(amount: int, part: int, rest: int) -> None:
    """Law: parts of an amount never exceed it together."""
    whole = part + rest
    own, other = part_micro_usd(amount, part, whole), part_micro_usd(amount, rest, whole)
    assert own + other <= amount
    assert amount - own - other <= 1 or whole == 0


@given(spans(), amounts, amounts)
def test_parts_grow_and_close_exactly(span: Span, one: int, other: int) -> None:
    """Law: no part ever falls, not even at the close; while it runs the dust is less than a micro-dollar each; at
    the close there is none, and every fee is its share of what is charged, rounded down."""
    early, late = sorted((one, other))
    before, after, closed = parts_due(span, early), parts_due(span, late), parts_at_close(span, late)
    assert before.keys() == after.keys() == closed.keys()
    assert all(0 <= before[account] <= after[account] <= closed[account] for account in closed)
    assert 0 <= late - sum(after.values()) < len(after)
    assert sum(closed.values()) == late
    assert closed[accounts.NETWORK_FEE] == late * span.network_fee_ppm // 1_000_000
