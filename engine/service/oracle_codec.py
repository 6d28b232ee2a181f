"""Between the contract's messages of OracleService and the engine's values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from walras.v1 import oracle_service_pb2 as pb
from walras.v1 import placement_pb2

from engine.domain.cluster_request import text_problem
from engine.domain.errors import InvalidInput, Violation
from engine.domain.money import SECONDS_PER_HOUR
from engine.domain.tiers import SecurityTier
from engine.market.published import (
    CAP,
    CLEARING,
    FLOOR,
    HIDDEN,
    LONG_RUN,
    POSTED,
    MarketName,
    PricePoint,
    columns_of,
)
from engine.market.state import MarketState
from engine.oracle.health import Health
from engine.oracle.parameters import OracleParameters
from engine.oracle.quote_lines import Line, LineKind, QuotePrice, SetBy
from engine.oracle.snapshot import MarketPrice
from engine.oracle.steps import Step

Int = NDArray[np.int64]
_SET_BY = {SetBy.FORWARD: "POSTED", SetBy.ASK: "ASK", SetBy.BOTH: "BOTH"}


class MarketLine(NamedTuple):
    """A market as placements see it now."""

    name: MarketName
    posted: int
    source: str
    gpus_free: int


def market_lines(state: MarketState) -> list[MarketLine]:
    """All markets of the fleet, by model, region and tier."""
    inventory = state.inventory
    keys = inventory.markets
    free = np.bincount(inventory.market, weights=inventory.free, minlength=keys.size).astype(np.int64)
    columns = inventory.posted_of_market.tolist(), state.price_sources, free.tolist()
    return [
        MarketLine(inventory.market_names(key), *row) for key, *row in zip(keys.tolist(), *columns, strict=True)
    ]


def price_message(
    line: MarketLine, known: MarketPrice | None, state: MarketState, parameters: OracleParameters
) -> pb.MarketPrice:
    """The contract's price of a market; `known`: what the oracle published of it."""
    model, region, tier = line.name
    message = pb.MarketPrice(
        gpu_model=model,
        region=region,
        security_tier=tier,
        posted_price_micro_usd_per_gpu_hour=line.posted,
        source=line.source,
        price_snapshot_id=state.inventory.price_snapshot_id,
        gpus_free=line.gpus_free,
    )
    if known is not None:
        _write_published(message, known, state, parameters)
    return message


def _write_published(
    message: pb.MarketPrice, known: MarketPrice, state: MarketState, parameters: OracleParameters
) -> None:
    message.epoch, message.taken_time_us = state.oracle.epoch, state.oracle.taken_at_us
    for name in ("floor", "cap", "long_run"):
        field = f"{name}_micro_usd_per_gpu_hour"
        setattr(message, field, getattr(known, field))
    bracket = known.shown_bracket(parameters)
    if bracket is not None:
        message.clearing_price_micro_usd_per_gpu_hour = message.bracket_low_micro_usd_per_gpu_hour = bracket[0]
        if bracket[1] is not None:
            message.bracket_high_micro_usd_per_gpu_hour = bracket[1]
    interruptible = state.oracle.interruptible.get((message.gpu_model, message.region, message.security_tier))
    if interruptible is not None:
        message.interruptible_price_micro_usd_per_gpu_hour = interruptible
    message.binding_reason, message.limited_by = known.reason, known.limit
    message.health.CopyFrom(health_message(known.health))


def health_message(health: Health) -> pb.PriceHealth:
    """The contract's health answer."""
    return pb.PriceHealth(
        is_healthy=health.is_healthy,
        reference_micro_usd_per_gpu_hour=health.value_micro_usd_per_gpu_hour,
        sources=health.sources,
        age_us=health.age_us,
        deviation=health.deviation,
        failure_reasons=health.failure_reasons,
        alarms=health.alarms,
    )


def points_of(history: list[PricePoint], market: MarketName) -> Iterator[pb.PricePoint]:
    """The market's points of some epochs, those that know it."""
    place, markets = -1, None
    for point in history:
        if point.markets is not markets:
            markets = point.markets
            place = markets.index(market) if market in markets else -1
        if place < 0:
            continue
        column = columns_of(point.columns, len(point.markets))[:, place].tolist()
        yield pb.PricePoint(
            epoch=point.epoch,
            taken_time_us=point.taken_at_us,
            price_snapshot_id=point.price_snapshot_id,
            posted_price_micro_usd_per_gpu_hour=column[POSTED],
            clearing_price_micro_usd_per_gpu_hour=None if column[CLEARING] == HIDDEN else column[CLEARING],
            floor_micro_usd_per_gpu_hour=column[FLOOR],
            cap_micro_usd_per_gpu_hour=column[CAP],
            long_run_micro_usd_per_gpu_hour=column[LONG_RUN],
        )


def estimate_message(
    priced: QuotePrice, market: MarketName, gpu_count: int, duration_s: int, state: MarketState
) -> pb.CostEstimate:
    """The contract's estimate."""
    rate = _per_hour(priced.total_micro_usd, duration_s)
    price = placement_pb2.Price(
        total_micro_usd=priced.total_micro_usd,
        rate_micro_usd_per_hour=rate,
        duration_s=duration_s,
        lines=[_line_message(line, market) for line in priced.lines],
        price_snapshot_id=state.inventory.price_snapshot_id,
        price_epoch=state.oracle.epoch,
        network_fee_micro_usd=priced.network_fee_micro_usd,
    )
    average = _per_hour(priced.total_micro_usd, duration_s * gpu_count)
    return pb.CostEstimate(price=price, average_micro_usd_per_gpu_hour=average)


def _line_message(line: Line, market: MarketName) -> placement_pb2.PriceLine:
    model, region, tier = ("", "", "") if line.kind is LineKind.SPREAD else market
    return placement_pb2.PriceLine(
        gpu_model=model,
        region=region,
        security_tier=tier,
        gpus=line.gpus,
        rate_micro_usd_per_hour=_per_hour(line.amount_micro_usd, line.to_s - line.from_s),
        set_by=_SET_BY[line.set_by],
        amount_micro_usd=line.amount_micro_usd,
        kind=line.kind,
        from_s=line.from_s,
        to_s=line.to_s,
    )


def _per_hour(amount: int, seconds: int) -> int:
    return (2 * amount * SECONDS_PER_HOUR + seconds) // (2 * seconds)


def step_messages(steps: list[Step]) -> list[pb.PriceStep]:
    """The contract's steps."""
    return [
        pb.PriceStep(price_micro_usd_per_gpu_hour=step.price_micro_usd_per_gpu_hour, gpu_seconds=step.gpu_seconds)
        for step in steps
    ]


def market_of(request: Any) -> MarketName:
    """The market that a request names; InvalidInput lists what is wrong."""
    violations = [
        Violation(field, problem)
        for field in ("gpu_model", "region")
        if (problem := text_problem(getattr(request, field)))
    ]
    violations += tier_violations(request.security_tier)
    if violations:
        raise InvalidInput(violations)
    return request.gpu_model, request.region, request.security_tier


def tier_violations(name: str) -> list[Violation]:
    """What is wrong with a tier."""
    if name in SecurityTier.__members__:
        return []
    return [Violation("security_tier", f"must be one of {', '.join(SecurityTier.__members__)}, got {name[:40]!r}")]
