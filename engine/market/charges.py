"""What a placement costs over its duration, itemised; the lines sum to the total in integers.

Where prices are flat for the duration a total is rate × time, and there is one band of hours. Elsewhere costs are
exact sums over the hours of the forward curves (`solvers.forward`), in units that divide a micro-dollar. Either
way the total is rounded once, half up, and lines take the differences of the rounded running sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.domain.money import (
    itemise_costs,
    itemise_micro_usd,
    least_price_with_share,
    rounded_micro_usd,
    share_of_gpu,
    total_micro_usd,
)
from engine.market.fleet_columns import Glance
from engine.market.inventory import Inventory
from engine.market.lease_terms import PriceLine
from engine.market.periods import band_edges
from solvers.forward import HOUR_S, LARGEST, averages_of, band_costs, line_parts, units_per_hour
from solvers.placement import Placement

Int = NDArray[np.int64]
GPU_HOURS, LOCALITY, SPREAD = "GPU_HOURS", "LOCALITY", "SPREAD"
KINDS = (GPU_HOURS, LOCALITY)
SET_BY = ("POSTED", "ASK", "BOTH")
BILLION = 1_000_000_000


class Charge(NamedTuple):
    """`prices` (nodes,) and `rate`, their sum over GPUs: per hour, averaged over the duration; and the total.

    `bound`: no placement has a lower rate.
    """

    prices: Int
    rate_micro_usd_per_hour: int
    total_micro_usd: int
    bound_micro_usd_per_hour: int
    lines: list[PriceLine]


def charge_of(
    inventory: Inventory, found: Placement, duration_s: int, seen: Glance, gpu_milli: int | None = None
) -> Charge:
    """The price of what `inventory.placer_for` this duration found; InvalidInput if it is too large.

    `seen`: a glance at its nodes. `gpu_milli`: the part that is sold of the one GPU that was found.
    """
    if gpu_milli is not None:
        return _part_charge(inventory, found, duration_s, seen, gpu_milli)
    if inventory.is_flat(duration_s):
        return _flat_charge(inventory, found, duration_s, seen)
    return _forward_charge(inventory, found, duration_s, seen)


def _flat_charge(inventory: Inventory, found: Placement, duration_s: int, seen: Glance) -> Charge:
    total = _chargeable(total_micro_usd(int(found.rate), duration_s))
    parts = list(_flat_parts(inventory, found, seen))
    amounts = itemise_micro_usd((part.cost for part in parts), duration_s)
    lines = [
        part.line(inventory, amount, part.cost, (0, duration_s))
        for part, amount in zip(parts, amounts, strict=True)
    ]
    return Charge(found.prices_micro_usd, int(found.rate), total, int(found.lower_bound), lines)


def _forward_charge(inventory: Inventory, found: Placement, duration_s: int, seen: Glance) -> Charge:
    units = units_per_hour(duration_s)
    total, rate, prices = _forward_totals(found, duration_s)
    _chargeable(total, units)
    proven = min(int(found.lower_bound) * HOUR_S // (units * duration_s), rate - 1)
    bound = rate if found.lower_bound == found.rate else proven
    return Charge(prices, rate, total, bound, _forward_lines(inventory, found, duration_s, seen))


def _forward_totals(found: Placement, duration_s: int) -> tuple[int, int, Int]:
    """(total, rate per hour, average price of each node); total and rate too large if they are."""
    costs, units = found.prices_micro_usd, units_per_hour(duration_s)
    prices, rate, gpus, largest = averages_of(costs, found.gpus, units, duration_s)
    if largest >= LARGEST // gpus:  # cut off: it costs more than this
        return MAX_TOTAL_MICRO_USD + 1, MAX_TOTAL_MICRO_USD + 1, costs
    return (2 * int(found.rate) + units) // (2 * units), rate, prices


def _forward_lines(inventory: Inventory, found: Placement, duration_s: int, seen: Glance) -> list[PriceLine]:
    """By market, band and what sets the price; amounts are the differences of the rounded running sum."""
    edges, market = band_edges(0, duration_s), np.ascontiguousarray(seen.market)
    parts, _ = line_parts(
        *curve_rows(inventory, market, duration_s), market, inventory.markets.size,
        np.ascontiguousarray(seen.ask_micro_usd), found.gpus, np.array(edges), units_per_hour(duration_s),
        np.array([market.size]),
    )  # fmt: skip
    lines, bands, names = [], list(pairwise(edges)), inventory.names_by_place
    for place, band, set_by, kind, count, amount, rate in parts[:, :7].tolist():
        (model, region, tier), (from_s, to_s) = names[place], bands[band]
        lines.append(
            PriceLine(model, region, tier, SET_BY[set_by], count, rate, amount, KINDS[kind], from_s, to_s)
        )
    return lines


def _part_charge(inventory: Inventory, found: Placement, duration_s: int, seen: Glance, gpu_milli: int) -> Charge:
    """As for the whole GPU, with its share of every running sum."""
    flat, units = inventory.is_flat(duration_s), units_per_hour(duration_s)
    edges = [0, duration_s] if flat else band_edges(0, duration_s)
    own = _flat_parts(inventory, found, seen) if flat else _band_parts(inventory, found, duration_s, edges, seen)
    parts = list(own)
    running = accumulate(part.cost for part in parts)
    if flat:
        shares = [share_of_gpu(cost, gpu_milli) * duration_s for cost in running]
    else:
        shares = [share_of_gpu(cost * HOUR_S // units, gpu_milli) for cost in running]
    total, rate = totals_of(inventory, found, duration_s, gpu_milli)
    _chargeable(total)
    bands, amounts = list(pairwise(edges)), itemise_costs(shares)
    lines = [
        part.line(inventory, amount, per_hour(amount, *bands[part.band]), bands[part.band])
        for part, amount in zip(parts, amounts, strict=True)
    ]
    return Charge(np.array([rate]), rate, total, rate, lines)


def totals_of(
    inventory: Inventory, found: Placement, duration_s: int, gpu_milli: int | None = None
) -> tuple[int, int]:
    """(total, rate per hour) of what `inventory.placer_for` this duration found; both too large if they are."""
    if gpu_milli is not None:
        return _part_totals(inventory, found, duration_s, gpu_milli)
    if inventory.is_flat(duration_s):
        return total_micro_usd(int(found.rate), duration_s), int(found.rate)
    return _forward_totals(found, duration_s)[:2]


def _part_totals(inventory: Inventory, found: Placement, duration_s: int, gpu_milli: int) -> tuple[int, int]:
    if inventory.is_flat(duration_s):
        rate = share_of_gpu(int(found.rate), gpu_milli)
        return total_micro_usd(rate, duration_s), rate
    cost = share_of_gpu(int(found.rate) * HOUR_S // units_per_hour(duration_s), gpu_milli)
    return rounded_micro_usd(cost), (2 * cost + duration_s) // (2 * duration_s)


def cheapest_cap(inventory: Inventory, cost: int, spread: int, request: ClusterRequest) -> int:
    """The least price limit per GPU-hour that a placement's `rate` or `lower_bound`, plus a spread, keeps.

    Of a part: the price of the whole GPU keeps it, and the part with its spread keeps its share.
    """
    duration_s, gpu_milli = request.priced_duration_s, request.gpu_milli
    flat = inventory.is_flat(duration_s)
    units, hours = (HOUR_S, duration_s) if flat else (units_per_hour(duration_s), 1)
    beside = spread if gpu_milli is None else 0
    whole = -(-(int(cost) * hours + beside * units) * HOUR_S // (request.gpu_count * duration_s * units))
    if gpu_milli is None:
        return whole
    share = share_of_gpu(int(cost), gpu_milli) * duration_s
    if not flat:
        share = share_of_gpu(int(cost) * HOUR_S // units, gpu_milli)
    return max(whole, least_price_with_share(max(1, -(-(share + spread * HOUR_S) // duration_s)), gpu_milli))


def spread_micro_usd(total: int, spread_factor: float, volatility_ppb: int, ttl_s: int) -> int:
    """Price of holding: total · factor · σ · √hours, the share to the billionth, rounded up to a micro-dollar."""
    share = spread_factor * (volatility_ppb / BILLION) * math.sqrt(ttl_s / HOUR_S)
    return -(-total * round(share * BILLION) // BILLION)


class _Part(NamedTuple):
    """GPUs of one market in one band, their price set in one way. `cost`: in the units of the placement."""

    market: int
    band: int
    set_by: int
    kind: str
    gpus: int
    cost: int

    def line(self, inventory: Inventory, amount: int, rate: int, band: tuple[int, int]) -> PriceLine:
        model, region, tier = inventory.names_by_place[self.market]
        from_s, to_s = band
        return PriceLine(
            model, region, tier, SET_BY[self.set_by], self.gpus, rate, amount, self.kind, from_s, to_s
        )


def _flat_parts(inventory: Inventory, found: Placement, seen: Glance) -> Iterator[_Part]:
    """The sums that the placement comes with, and of them what the place adds; an ask is as dear anywhere."""
    posted, markets, at_ask = inventory.posted_of_market, found.lines // 2, found.lines % 2
    adds = (at_ask == 0) & (posted[inventory.cheapest[markets]] < posted[markets])
    premium = _premiums(inventory, found, seen) if adds.any() else np.zeros(1, dtype=np.int64)
    columns = (markets, at_ask, found.line_gpus, found.line_rates, adds)
    for market, set_by, gpus, rate, dearer in zip(*(column.tolist() for column in columns), strict=True):
        added = int(premium[market]) if dearer else 0
        yield _Part(market, 0, set_by, GPU_HOURS, gpus, rate - added)
        if added:
            yield _Part(market, 0, set_by, LOCALITY, gpus, added)


def _band_parts(
    inventory: Inventory, found: Placement, duration_s: int, edges: list[int], seen: Glance
) -> Iterator[_Part]:
    """The parts of one node, by band."""
    market = np.ascontiguousarray(seen.market)
    costs, gpus = band_costs(
        *curve_rows(inventory, market, duration_s), np.zeros_like(market), 1,
        np.ascontiguousarray(seen.ask_micro_usd), found.gpus, np.array(edges), units_per_hour(duration_s),
    )  # fmt: skip
    for _, band, set_by in np.argwhere(gpus).tolist():
        base, premium = costs[0, band, set_by].tolist()
        count = int(gpus[0, band, set_by])
        yield _Part(int(market[0]), band, set_by, GPU_HOURS, count, base)
        if premium:
            yield _Part(int(market[0]), band, set_by, LOCALITY, count, premium)


def curve_rows(inventory: Inventory, market: Int, duration_s: int) -> tuple[Int, Int, Int, Int]:
    """(prices, their sums, the row of each market, that of the cheapest one of its model and tier)."""
    curves, row = inventory.rows_of(
        np.concatenate((market, inventory.cheapest_for(market, duration_s))), duration_s
    )
    return curves.rate, curves.running, row[: market.size], row[market.size :]


def _premiums(inventory: Inventory, found: Placement, seen: Glance) -> Int:
    """What the posted prices of the markets add to the cheapest region's, per hour, (markets,)."""
    elsewhere = inventory.posted_of_market[inventory.cheapest[seen.market]]
    premium = np.maximum(0, seen.posted_micro_usd - np.maximum(seen.ask_micro_usd, elsewhere))
    total = np.zeros(inventory.markets.size, dtype=np.int64)
    np.add.at(total, seen.market, found.gpus * premium)
    return total


def per_hour(amount: int, from_s: int, to_s: int) -> int:
    """An amount for some seconds as a rate, rounded half up."""
    seconds = to_s - from_s
    return (2 * amount * HOUR_S + seconds) // (2 * seconds)


def _chargeable(total: int, units: int = 1) -> int:
    if total > MAX_TOTAL_MICRO_USD // (2 * units if units > 1 else 1):
        raise InvalidInput([Violation("duration_s", "makes the total larger than can be charged")])
    return total
