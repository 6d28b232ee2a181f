"""The audit of prices: forward curves hour by hour, by a formula of its own, shared with no solver."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.market.fleet_columns import Glance
from engine.market.inventory import Inventory
from engine.market.lease_terms import Terms
from solvers.audited import paid_by_hour

Int = NDArray[np.int64]
CELLS_MAX = 1 << 20
"""Prices by hour that are laid out at once, or kept."""


class HourlyPrices(NamedTuple):
    """What hours cost in every market, (markets, hours), the most that any costs, and the curves they are of."""

    posted: Int
    long_run: Int
    half_life_h: float
    table: Int
    largest: int

    def is_of(self, inventory: Inventory, hours: int) -> bool:
        """Whether it still holds, for so many hours."""
        same = self.posted is inventory.posted_of_market and self.long_run is inventory.long_run
        return same and self.half_life_h == inventory.half_life_h and self.table.shape[1] >= hours


def price_faults(inventory: Inventory, terms: Terms, gpus: Int, prices: Int, seen: Glance) -> list[str]:
    """Rules of the prices: max(ask, posted), or its average over the hours of a curve that is not flat.

    `gpus`, `prices`: the columns of the terms.
    """
    if _stay(inventory, terms.duration_s):
        whole = np.maximum(seen.ask_micro_usd, seen.posted_micro_usd)
        right = (prices == of_part(terms.request, whole)).all()
        return [] if right else ["has a price that is not max(ask, posted)"]
    duration_s, faults = terms.duration_s, []
    sums = of_part(terms.request, _forward_sums(inventory, terms.request, terms.request.gpu_count, seen))
    if (prices != (2 * sums + duration_s) // (2 * duration_s)).any():
        faults.append("has a price that is not the average of max(ask, forward price)")
    exact = int(np.dot(gpus, sums))
    if terms.total_micro_usd - terms.spread_micro_usd != (2 * exact + 3_600) // 7_200:
        faults.append("has a total that is not the sum over its hours")
    return faults


def price_faults_of_many(
    inventory: Inventory,
    request: ClusterRequest,
    gpus_most: int,
    seen: Glance,
    begins: Int,
    gpus: Int,
    prices: Int,
    totals: Int,
) -> list[str]:
    """The same of placements of whole GPUs, of which each has `totals` (placements,) and the nodes from `begins`
    on.

    `gpus_most`: the most GPUs of a placement.
    """
    duration_s, faults = request.priced_duration_s, []
    if _stay(inventory, duration_s):
        right = (prices == np.maximum(seen.ask_micro_usd, seen.posted_micro_usd)).all()
        return [] if right else ["has a price that is not max(ask, posted)"]
    sums = _forward_sums(inventory, request, gpus_most, seen)
    if (prices != (2 * sums + duration_s) // (2 * duration_s)).any():
        faults.append("has a price that is not the average of max(ask, forward price)")
    if (totals != (2 * np.add.reduceat(gpus * sums, begins) + 3_600) // 7_200).any():
        faults.append("has a total that is not the sum over its hours")
    return faults


def _stay(inventory: Inventory, duration_s: int) -> bool:
    """Whether prices stay the posted ones for so long."""
    posted, long_run = inventory.posted_of_market, inventory.long_run
    return duration_s <= 3_600 or posted is long_run or bool((long_run == posted).all())


def of_part(request: ClusterRequest, whole: Any) -> Any:
    """What the part that is asked for costs of what whole GPUs cost, rounded up."""
    return whole if request.gpu_milli is None else (whole * request.gpu_milli + 999) // 1_000


def _forward_sums(inventory: Inventory, request: ClusterRequest, gpus: int, seen: Glance) -> Int:
    """Σ seconds · max(ask, forward price) of each node; Python integers where 64 bits might not hold the sum over
    so many GPUs."""
    duration_s, asks = request.priced_duration_s, seen.ask_micro_usd
    hours = -(-duration_s // 3_600)
    last_s, at_once = duration_s - 3_600 * (hours - 1), max(1, CELLS_MAX // hours)
    kept = _kept_hours(inventory, hours)
    if kept is not None and not request.gpu_milli:
        largest = max(kept.largest, int(asks.max()))
        if 4 * largest * duration_s * gpus < 2**63:
            return paid_by_hour(kept.table, seen.market, asks, hours, last_s)
    sums: list[Int] = []
    for begin in range(0, asks.size, at_once):
        part = slice(begin, begin + at_once)
        market = seen.market[part]
        forward = kept.table[market, :hours] if kept is not None else _hourly(inventory, market, hours)
        paid = np.maximum(forward, asks[part, None])
        whole, last = paid[:, :-1].sum(axis=1), paid[:, -1]
        if 4 * int(paid.max()) * duration_s * gpus >= 2**63 or request.gpu_milli:
            whole, last = whole.astype(object), last.astype(object)
        sums.append(3_600 * whole + last_s * last)
    return sums[0] if len(sums) == 1 else np.concatenate(sums)


def _kept_hours(inventory: Inventory, hours: int) -> HourlyPrices | None:
    """The prices of all markets, made once for all placements until prices change; None if they are too many."""
    kept, everywhere = inventory.audited_hours, inventory.posted_of_market.size
    if isinstance(kept, HourlyPrices) and kept.is_of(inventory, hours):
        return kept
    if everywhere * hours > CELLS_MAX:
        return None
    table = _hourly(inventory, np.arange(everywhere), hours)
    kept = HourlyPrices(
        inventory.posted_of_market, inventory.long_run, inventory.half_life_h, table, int(table.max())
    )
    inventory.audited_hours = kept
    return kept


def _hourly(inventory: Inventory, markets: Int, hours: int) -> Int:
    posted, long_run = (prices[markets][:, None] for prices in (inventory.posted_of_market, inventory.long_run))
    exact = long_run + (posted - long_run) * 0.5 ** (np.arange(hours) / inventory.half_life_h)
    forward: Int = np.floor(exact + 0.5).astype(np.int64)
    return forward
