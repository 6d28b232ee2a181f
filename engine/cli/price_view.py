"""Prices as tables for people. A price that the engine hides, or has not yet, is a dash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.cli.amounts import duration, moment, usd, usd_per_gpu_hour
from engine.cli.price_spark import levels_of, sparkline
from engine.cli.text_table import Row, shortened, text_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from walras.v1 import oracle_service_pb2 as pb
    from walras.v1 import placement_pb2

CENT_MICRO_USD = 10_000
TEXTS = (("market", 0), ("set by", 0), ("health", 50))
NUMBERS = (
    ("posted", 0),
    ("clearing", 56),
    ("interruptible", 130),
    ("bracket", 110),
    ("floor", 90),
    ("cap", 90),
    ("GPUs free", 120),
    ("trend", 80),
)
"""Columns, and the least width of a terminal that they are shown on, which leaves texts room; a pipe shows all."""
PastPrices = Mapping[tuple[str, str, str], Sequence["pb.PricePoint"]]


def price_table(prices: Sequence[pb.MarketPrice], past: PastPrices, console: Console, title: str = "") -> Table:
    """A row a market, USD per GPU-hour; the trend is that of `past`."""
    levels = levels_of(console)
    columns = (*TEXTS, *NUMBERS)
    shown = [column for column, (_, least_width) in enumerate(columns) if console.width >= least_width]
    rows = []
    for price in prices:
        market = (price.gpu_model, price.region, price.security_tier)
        texts = (" ".join(market), set_by(price), health(price))
        row = (*texts, *_figures(price), trend(past.get(market, ()), levels))
        rows.append(tuple(row[column] for column in shown))
    headings = [[name for name, least_width in part if console.width >= least_width] for part in (TEXTS, NUMBERS)]
    title = title or f"{counted(len(prices), 'market')}, per GPU-hour"
    return text_table(title, tuple(headings[0]), tuple(headings[1]), rows)


def _figures(price: pb.MarketPrice) -> Row:
    return (
        usd_per_gpu_hour(price.posted_price_micro_usd_per_gpu_hour),
        _optional(price, "clearing_price_micro_usd_per_gpu_hour"),
        _optional(price, "interruptible_price_micro_usd_per_gpu_hour"),
        bracket(price),
        _optional(price, "floor_micro_usd_per_gpu_hour"),
        _optional(price, "cap_micro_usd_per_gpu_hour"),
        f"{price.gpus_free:,}",
    )


def history_tables(prices: Sequence[pb.MarketPrice], past: PastPrices, console: Console) -> Iterator[Table]:
    """A table a market, oldest price first, its trend in the title."""
    levels = levels_of(console)
    for price in prices:
        points = past.get((price.gpu_model, price.region, price.security_tier), ())
        named = f"{price.gpu_model} {price.region} {price.security_tier}"
        title = f"{named}  {counted(len(points), 'snapshot')}  {trend(points, levels)}"
        yield text_table(title, ("taken", "snapshot"), HISTORY_NUMBERS, shortened(_history_rows(points)))


HISTORY_NUMBERS = ("posted", "clearing", "floor", "cap", "long run")


def _history_rows(points: Sequence[pb.PricePoint]) -> list[Row]:
    return [
        (
            moment(point.taken_time_us),
            point.price_snapshot_id,
            usd_per_gpu_hour(point.posted_price_micro_usd_per_gpu_hour),
            _optional(point, "clearing_price_micro_usd_per_gpu_hour"),
            usd_per_gpu_hour(point.floor_micro_usd_per_gpu_hour),
            usd_per_gpu_hour(point.cap_micro_usd_per_gpu_hour),
            usd_per_gpu_hour(point.long_run_micro_usd_per_gpu_hour),
        )
        for point in points
    ]


def estimate_table(prices: Sequence[tuple[Row, pb.CostEstimate]], title: str) -> Table:
    """A row a market: its names, average and total."""
    rows = (
        (*market, usd_per_gpu_hour(cost.average_micro_usd_per_gpu_hour), usd(cost.price.total_micro_usd))
        for market, cost in prices
    )
    return text_table(title, ("model", "region", "tier"), ("per GPU-hour", "total"), rows)


def line_table(price: placement_pb2.Price) -> Table:
    """What a total is made of."""
    rows = (
        (
            line.kind,
            f"{duration(line.from_s)} to {duration(line.to_s)}",
            line.set_by,
            f"{line.gpus:,}",
            usd(line.amount_micro_usd),
        )
        for line in price.lines
    )
    return text_table("of which", ("for", "hours", "set by"), ("GPUs", "amount"), rows)


def set_by(price: pb.MarketPrice) -> str:
    """What the clearing price rests on and what limits the posted one; before the first epoch its source."""
    limit = "" if price.limited_by in ("", "NONE") else f", {price.limited_by}"
    return (price.binding_reason or price.source) + limit


def health(price: pb.MarketPrice) -> str:
    """`ok`, or why the price is frozen; alarms behind an exclamation mark."""
    if not price.HasField("health"):
        return "-"
    state = "ok" if price.health.is_healthy else " ".join(price.health.failure_reasons)
    return " ".join((state, *(f"!{alarm}" for alarm in price.health.alarms)))


def bracket(price: pb.MarketPrice) -> str:
    """What one more GPU-hour would be worth to what one fewer would cost, in cents; a dash where hidden."""
    if not price.HasField("bracket_low_micro_usd_per_gpu_hour"):
        return "-"
    low = _cents(price.bracket_low_micro_usd_per_gpu_hour)
    if not price.HasField("bracket_high_micro_usd_per_gpu_hour"):
        return f"{low} up"
    return f"{low}..{_cents(price.bracket_high_micro_usd_per_gpu_hour)}"


def trend(points: Sequence[pb.PricePoint], levels: str) -> str:
    """Posted prices as a sparkline."""
    return sparkline([point.posted_price_micro_usd_per_gpu_hour for point in points], levels)


def counted(number: int, noun: str) -> str:
    """`1 market`, `2 markets`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _cents(micro_usd: int) -> str:
    cents = micro_usd // CENT_MICRO_USD
    return f"{cents // 100:,}.{cents % 100:02}"


def _optional(message: pb.MarketPrice | pb.PricePoint, field: str) -> str:
    return usd_per_gpu_hour(getattr(message, field)) if message.HasField(field) else "-"  # type: ignore[arg-type]
