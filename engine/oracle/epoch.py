"""One epoch of the oracle: from what was published and what is seen now to the next price snapshot.

Pure: the same arguments give the same snapshot, bit for bit, id included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.datasets.reference_prices import TIER_FACTOR_PERMILLE
from engine.domain.errors import InvalidInput, Violation
from engine.oracle.dominance import opened, raised
from engine.oracle.health import Health, health_of
from engine.oracle.joint_clearing import JointClearing, clear_markets
from engine.oracle.markets import Bids, Int, Market, Supply, joined, next_lower, within
from engine.oracle.parameters import OracleParameters
from engine.oracle.participation import participation, without_self_dealing
from engine.oracle.posted import next_bound, next_long_run, next_posted, step_bounds
from engine.oracle.references import Reference, ReferenceQuote, reference_of
from engine.oracle.snapshot import Limit, MarketPrice, PriceSnapshot, snapshot_of
from solvers.market_clearing.exact import UNBOUNDED

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MarketView:
    """Live supply at `as_of_us`. `markets`: distinct, sorted; also those that are empty now but shall keep their
    price: one left out is forgotten. `opening_micro_usd_per_gpu_hour` (markets,): where a market without a
    reference opens, such as the median ask of its nodes.
    """

    markets: tuple[Market, ...]
    supply: Supply
    opening_micro_usd_per_gpu_hour: Int
    as_of_us: int

    def __post_init__(self) -> None:
        found = []
        if list(self.markets) != sorted(set(self.markets)):
            found.append(Violation("markets", "must be distinct and sorted"))
        if self.opening_micro_usd_per_gpu_hour.size != len(self.markets):
            found.append(Violation("opening_micro_usd_per_gpu_hour", "must have a price for each market"))
        if not within(self.supply.market, len(self.markets)):
            found.append(Violation("supply", "names a market that is not listed"))
        if found:
            raise InvalidInput(found)


@dataclass(frozen=True, slots=True)
class _Prices:
    """What a market carries from epoch to epoch, (markets,) each; -1 where a market is new."""

    posted: Int
    floor: Int
    cap: Int
    long_run: Int


def next_epoch(
    previous: PriceSnapshot | None,
    view: MarketView,
    orders: Bids,
    window_demand: Bids,
    references: Sequence[ReferenceQuote],
    now_us: int,
    parameters: OracleParameters,
) -> PriceSnapshot:
    """The next snapshot. Within the epoch of `previous`, or before it, `previous` itself.

    `orders`: funded and waiting; `window_demand`: arrivals of the last window that are not waiting any more. After
    a pause prices move by one epoch's clip, not by the pause's.
    """
    epoch = now_us // parameters.epoch_us
    if previous is not None and epoch <= previous.epoch:
        return previous
    lower = next_lower(view.markets)
    wanted = joined(orders, window_demand)
    if not within(wanted.sets.markets, lower.size):
        raise InvalidInput([Violation("market_sets", "name a market that is not listed")])
    bids = without_self_dealing(wanted, view.supply, lower.size)
    cleared = clear_markets(bids, view.supply, sellable_gpu_seconds(view.supply, parameters), lower)
    by_model = _references(view.markets, references, now_us, parameters)
    taking_part = participation(bids, view.supply, lower.size)
    health = [
        health_of(by_model[market.gpu_model], now_us - view.as_of_us, price, tenant_share, owner_share, parameters)
        for market, price, tenant_share, owner_share in zip(
            view.markets,
            cleared.price.tolist(),
            taking_part.largest_tenant_share.tolist(),
            taking_part.largest_owner_share.tolist(),
            strict=True,
        )
    ]
    before = _carried(previous, view.markets)
    after, limits = _moved(before, view, cleared, by_model, health, lower, parameters)
    rows = _published(view.markets, cleared, after, limits, taking_part.tenants, health)
    return snapshot_of(epoch, now_us, rows)


def sellable_gpu_seconds(supply: Supply, parameters: OracleParameters) -> Int:
    """η · GPUs · window of each row of supply, rounded down to whole GPU-seconds."""
    seconds: Int = np.floor(supply.gpus * (parameters.availability * parameters.window_s)).astype(np.int64)
    return seconds


def _references(
    markets: tuple[Market, ...], quotes: Sequence[ReferenceQuote], now_us: int, parameters: OracleParameters
) -> dict[str, Reference]:
    of_model: dict[str, list[ReferenceQuote]] = {market.gpu_model: [] for market in markets}
    for quote in quotes:
        if quote.gpu_model in of_model:
            of_model[quote.gpu_model].append(quote)
    return {model: reference_of(own, now_us, parameters) for model, own in of_model.items()}


def _carried(previous: PriceSnapshot | None, markets: tuple[Market, ...]) -> _Prices:
    known = {row.market: row for row in previous.markets} if previous is not None else {}
    found = [known.get(market) for market in markets]

    def column(name: str) -> Int:
        full = f"{name}_micro_usd_per_gpu_hour"
        return np.array([-1 if row is None else getattr(row, full) for row in found], dtype=np.int64)

    return _Prices(column("posted"), column("floor"), column("cap"), column("long_run"))


def _moved(
    before: _Prices,
    view: MarketView,
    cleared: JointClearing,
    by_model: dict[str, Reference],
    health: list[Health],
    lower: Int,
    parameters: OracleParameters,
) -> tuple[_Prices, list[Limit]]:
    """New prices and what limits them. Health is the same along dominance, so a freeze never breaks the order."""
    floor_target, cap_target, opening = _targets(view, by_model, lower, parameters)
    floor = opened(before.floor, floor_target, lower)
    cap = opened(before.cap, cap_target, lower)
    posted = opened(before.posted, np.clip(opening, floor, cap), lower)
    kept = _Prices(posted, floor, cap, opened(before.long_run, posted, lower))
    healthy = np.array([each.is_healthy for each in health], dtype=bool)
    after = _stepped(kept, cleared.price, floor_target, cap_target, healthy, parameters)
    return after, _limits(before.posted < 0, healthy, kept.posted, after, cleared.price, parameters)


def _stepped(
    kept: _Prices, clearing: Int, floor_target: Int, cap_target: Int, healthy: Flags, parameters: OracleParameters
) -> _Prices:
    """One epoch of smoothing where healthy, nothing elsewhere."""
    floor = np.where(healthy, next_bound(kept.floor, floor_target, parameters), kept.floor)
    cap = np.where(healthy, next_bound(kept.cap, cap_target, parameters), kept.cap)
    posted = np.where(healthy, next_posted(kept.posted, clearing, floor, cap, parameters), kept.posted)
    long_run = np.clip(next_long_run(kept.long_run, posted, parameters), floor, cap)
    return _Prices(posted, floor, cap, np.where(healthy, long_run, kept.long_run))


def _targets(
    view: MarketView, by_model: dict[str, Reference], lower: Int, parameters: OracleParameters
) -> tuple[Int, Int, Int]:
    """(floor, cap, opening price) by the references, in order along dominance."""
    references = [by_model[market.gpu_model].value_micro_usd_per_gpu_hour for market in view.markets]
    asked = np.maximum(view.opening_micro_usd_per_gpu_hour, 1).tolist()
    value = np.array(
        [
            other if reference is None else reference * TIER_FACTOR_PERMILLE[market.tier] // 1_000
            for market, reference, other in zip(view.markets, references, asked, strict=True)
        ],
        dtype=np.int64,
    )
    reserve = parameters.reserve_micro_usd_per_gpu_hour
    floor = np.maximum(np.floor(value * parameters.floor_share).astype(np.int64), reserve)
    cap = np.maximum(np.floor(value * parameters.cap_share).astype(np.int64), floor)
    return raised(floor, lower), raised(cap, lower), raised(value, lower)


def _limits(
    fresh: Flags, healthy: Flags, posted: Int, after: _Prices, clearing: Int, parameters: OracleParameters
) -> list[Limit]:
    least, most = step_bounds(posted, parameters)
    at, rising = after.posted, clearing > posted
    named = (Limit.OPENING, Limit.FROZEN, Limit.FLOOR, Limit.CAP, Limit.RATE, Limit.NONE)
    conditions = [
        fresh,
        ~healthy,
        (at == after.floor) & (clearing <= at),
        (at == after.cap) & (clearing >= at),
        (at == np.where(rising, most, least)) & (at != clearing),
    ]
    return [named[each] for each in np.select(conditions, list(range(5)), 5).tolist()]


def _published(
    markets: tuple[Market, ...],
    cleared: JointClearing,
    after: _Prices,
    limits: list[Limit],
    tenants: Int,
    health: list[Health],
) -> tuple[MarketPrice, ...]:
    columns = zip(
        markets,
        cleared.price.tolist(),
        [None if upper == UNBOUNDED else upper for upper in cleared.upper.tolist()],
        after.posted.tolist(),
        after.floor.tolist(),
        after.cap.tolist(),
        after.long_run.tolist(),
        cleared.reasons,
        limits,
        tenants.tolist(),
        health,
        strict=True,
    )
    return tuple(MarketPrice(*row) for row in columns)
