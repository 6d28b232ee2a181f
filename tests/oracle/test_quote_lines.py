"""The laws of quotes: lines sum to the total, more never costs less, nothing is gained by splitting."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from engine.oracle.forward import ForwardCurve
from engine.oracle.parameters import OracleParameters
from engine.oracle.quote_lines import Hold, LineKind, Part, SetBy, quote_price, refund_micro_usd

PARAMETERS = OracleParameters()
PRICE = st.integers(1, 10**8)
CURVES = st.builds(ForwardCurve, PRICE, PRICE, st.just(48.0))
PARTS = st.lists(
    st.builds(Part, st.integers(0, 9), st.integers(1, 10_000), PRICE, CURVES, st.none() | CURVES),
    min_size=1,
    max_size=3,
)
SECONDS = st.integers(1, 30 * 24 * 3_600)
HOLDS = st.none() | st.builds(Hold, st.floats(0, 1), st.floats(0, 24))


@given(PARTS, SECONDS, SECONDS, HOLDS)
def test_lines_sum_to_the_total(parts: list[Part], start: int, length: int, hold: Hold | None) -> None:
    """Law: in integers, the lines add up to the total, and so do the supplier's part and the fee."""
    price = quote_price(parts, start, start + length, PARAMETERS, hold)
    assert sum(line.amount_micro_usd for line in price.lines) == price.total_micro_usd
    assert price.supplier_micro_usd + price.network_fee_micro_usd == price.total_micro_usd
    assert min(line.amount_micro_usd for line in price.lines) >= 0


@given(PARTS, SECONDS, SECONDS)
def test_lines_cover_the_time_of_every_part(parts: list[Part], start: int, length: int) -> None:
    """Law: the GPU-hour lines of a part are back to back from start to end."""
    price = quote_price(parts, start, start + length, PARAMETERS)
    seconds = sum(line.gpus * (line.to_s - line.from_s) for line in price.lines if line.kind is LineKind.GPU_HOURS)
    assert seconds == length * sum(part.gpus for part in parts)


@given(PARTS, SECONDS, SECONDS, st.integers(0, 100), HOLDS)
def test_more_gpus_or_hours_never_cost_less(
    parts: list[Part], end: int, more_s: int, more_gpus: int, hold: Hold | None
) -> None:
    """Law: monotone in count and hours, spread included."""
    total = quote_price(parts, 0, end, PARAMETERS, hold).total_micro_usd
    assert total <= quote_price(parts, 0, end + more_s, PARAMETERS, hold).total_micro_usd
    larger = [replace(parts[0], gpus=parts[0].gpus + more_gpus), *parts[1:]]
    assert total <= quote_price(larger, 0, end, PARAMETERS, hold).total_micro_usd


@given(PARTS, SECONDS, SECONDS, SECONDS)
def test_splits_and_chains_cost_the_same(parts: list[Part], start: int, first: int, second: int) -> None:
    """Law: apart from spread, two quotes back to back, or one per part, or one per GPU, cost what one does."""
    end = start + first + second
    total = quote_price(parts, start, end, PARAMETERS).total_micro_usd
    chained = (quote_price(parts, a, b, PARAMETERS) for a, b in ((start, start + first), (start + first, end)))
    assert total == sum(price.total_micro_usd for price in chained)
    alone = [quote_price([replace(part, gpus=1)], start, end, PARAMETERS).total_micro_usd for part in parts]
    assert total == sum(part.gpus * price for part, price in zip(parts, alone, strict=True))


@given(PARTS, SECONDS, SECONDS)
def test_the_locality_premium_only_itemises(parts: list[Part], start: int, length: int) -> None:
    """Law: naming a cheaper place changes lines, never the total."""
    plain = [replace(part, elsewhere=None) for part in parts]
    assert (
        quote_price(parts, start, start + length, PARAMETERS).total_micro_usd
        == quote_price(plain, start, start + length, PARAMETERS).total_micro_usd
    )


@given(PARTS, CURVES, SECONDS, SECONDS, st.integers(0, 10**6))
def test_a_refund_is_neither_above_the_quote_nor_above_the_market(
    parts: list[Part], current: ForwardCurve, start: int, length: int, elapsed: int
) -> None:
    """Law: unused time is refunded at min(quoted, current forward): locking long is no free option."""
    part, begin = replace(parts[0], elsewhere=None), start + elapsed
    refund = refund_micro_usd(part, current, begin, begin + length, elapsed)
    now = replace(part, curve=current)
    assert 0 <= refund <= quote_price([part], begin, begin + length, PARAMETERS).total_micro_usd
    assert refund <= quote_price([now], start, start + length, PARAMETERS).total_micro_usd


def test_lines_say_what_sets_the_price() -> None:
    """A curve that falls through the ask: first the curve decides, then both, then the ask."""
    falling = ForwardCurve(3_000_000, 1_000_000, 2.0)
    lines = quote_price([Part(0, 1, 2_000_000, falling)], 0, 24 * 3_600, PARAMETERS).lines
    assert [line.set_by for line in lines] == [SetBy.FORWARD, SetBy.BOTH, SetBy.ASK]


def test_an_itemised_quote() -> None:
    """8 GPUs for 2 h, held: two bands, a premium over the cheaper region, the spread; 5 % of it is the fee."""
    here, there = ForwardCurve(2_000_000, 2_000_000, 48.0), ForwardCurve(1_500_000, 1_500_000, 48.0)
    price = quote_price([Part(3, 8, 0, here, there)], 0, 7_200, PARAMETERS, Hold(0.05, 0.25))
    assert [(line.kind.name, line.from_s, line.amount_micro_usd) for line in price.lines] == [
        ("GPU_HOURS", 0, 12_000_000),
        ("GPU_HOURS", 3_600, 12_000_000),
        ("LOCALITY", 0, 4_000_000),
        ("LOCALITY", 3_600, 4_000_000),
        ("SPREAD", 0, 320_000),
    ]
    assert (price.total_micro_usd, price.network_fee_micro_usd) == (32_320_000, 1_616_000)
