"""Deciding on many leases at once: one request again and again, in some sizes, or some requests in any order.

The law: what is decided equals deciding the requests one by one (`many_leases.each_of` gives those events). So
only what nothing stands against is decided here: before the first lease that would be refused, or whose key is
known, it ends, and whoever asks decides that one by itself, which finds the reason. Nothing is decided for
requests whose rules bind the nodes of a lease together, or that share cards (`may_be_many`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import AuditFailed, InvalidInput, Refused
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.market.charges import cheapest_cap, curve_rows
from engine.market.commands import DeployMany
from engine.market.demand import known_demand
from engine.market.events import Kind, LeasesStarted
from engine.market.inventory import Inventory
from engine.market.ledger.bookings import credits_for
from engine.market.many_audit import faults_of_many
from engine.market.many_groups import Groups
from engine.market.periods import band_edges
from engine.market.prices import PriceBook
from engine.market.state import MarketState
from engine.market.stopwatch import Stopwatch
from solvers.forward import HOUR_S, LARGEST, average_prices, line_parts, units_per_hour
from solvers.mixed_turns import place_mixed, rows_of
from solvers.placement import Gangs

Int = NDArray[np.int64]
RATE_SECONDS_MAX = 2**60
"""A flat rate times its seconds, below which no sum over its lines leaves 64 bits."""


def may_be_many(request: ClusterRequest) -> bool:
    """Whether leases of the request can be decided together."""
    bound = request.max_cluster_rtt_ms is not None or request.same_fabric or request.max_supplier_share is not None
    return request.is_plain and not (bound or request.interruptible or request.all_matching)


def deploy_many(
    state: MarketState, command: DeployMany, now_us: int, book: PriceBook, stopwatch: Stopwatch
) -> list[LeasesStarted]:
    """One event for the first so many leases, or none."""
    requests = command.requests
    assert all(map(may_be_many, requests))
    size_of = np.array(command.size_of[: _new_keys(state, command)], dtype=np.int64)
    groups = Groups(requests, size_of)
    found = _placed(state.inventory, groups, book) if size_of.size else None
    charged = None if found is None else _charged(state.inventory, groups.first(found.rates.size), found)
    if found is None or charged is None:
        return []
    affordable = _within_caps(state.inventory, requests, command.size_of, charged)
    credited = credits_for(state, command.tenant_id, charged.totals[:affordable].tolist())
    if not credited:
        return []
    event = _event(state, command, now_us, groups.first(len(credited)), found, charged, credited)
    stopwatch.lap("decision")
    if faults := faults_of_many(state, event):
        raise AuditFailed("the placements failed their audit: " + "; ".join(faults))
    stopwatch.lap("audit")
    return [event]


def _new_keys(state: MarketState, command: DeployMany) -> int:
    """How many leases there are before the first whose key was used, earlier or for one of them."""
    seen = set[str]()
    for place, key in enumerate(command.keys):
        if key and (key in seen or (command.tenant_id, command.method, key) in state.subjects):
            return place
        seen.add(key)
    return len(command.keys)


def _placed(inventory: Inventory, groups: Groups, book: PriceBook) -> Gangs | None:
    """Placements in turn; None if a request cannot be placed, or its costs are too large for sums of many."""
    most, shapes = int(groups.gpus.max()), []
    for request in groups.shapes:
        try:
            demand = known_demand(inventory, request, book.models())
        except (InvalidInput, Refused):
            return None  # deciding one by itself says why
        shapes.append((inventory.placer_for(request.priced_duration_s, demand.models, most), demand))
    per_node = np.array([demand.gpus_per_replica for _, demand in shapes])
    found = place_mixed(shapes, groups.shape_of, groups.gpus // per_node[groups.shape_of])
    if not found.rates.size or int(found.prices_micro_usd.max()) >= LARGEST // most:
        return None
    return found


class _Charged(NamedTuple):
    """What placements cost: average prices (nodes,); `costs` as the placer counts, rates and totals (gangs,)."""

    prices: Int
    costs: Int
    rates: Int
    totals: Int


def _charged(inventory: Inventory, groups: Groups, found: Gangs) -> _Charged | None:
    """None where an amount could leave 64 bits on the way."""
    parts = []
    for request, leases, nodes in groups.each(found.node_counts):
        own = found.rates[leases], found.gpus[nodes], found.prices_micro_usd[nodes], found.node_counts[leases]
        part = _charged_alike(inventory, request.priced_duration_s, *own)
        if part is None:
            return None
        parts.append((leases, nodes, part))
    if len(parts) == 1:
        return parts[0][2]
    prices, of_lease = found.prices_micro_usd.copy(), np.empty((3, found.rates.size), dtype=np.int64)
    for leases, nodes, part in parts:
        prices[nodes], of_lease[:, leases] = part.prices, part[1:]
    return _Charged(prices, *of_lease)


def _charged_alike(
    inventory: Inventory, duration_s: int, costs: Int, gpus: Int, prices: Int, counts: Int
) -> _Charged | None:
    """Of placements for one duration, at the placer's `prices` (nodes,)."""
    if inventory.is_flat(duration_s):
        if int(costs.max()) * duration_s >= RATE_SECONDS_MAX // units_per_hour(duration_s):
            return None
        totals = (2 * costs * duration_s + HOUR_S) // (2 * HOUR_S)
        return _Charged(prices, costs, costs, totals)
    units = units_per_hour(duration_s)
    if int(costs.max()) >= LARGEST or int(costs.max()) // units >= MAX_TOTAL_MICRO_USD // (2 * units) - 1:
        return None
    prices = average_prices(prices, units, duration_s)
    rates = np.add.reduceat(gpus * prices, begins_of(counts))
    return _Charged(prices, costs, rates, (2 * costs + units) // (2 * units))


def begins_of(counts: Int) -> Int:
    """Where the rows of each begin, if each has so many, at least one."""
    begins: Int = counts.cumsum() - counts
    return begins


def _within_caps(
    inventory: Inventory, requests: list[ClusterRequest], size_of: list[int], charged: _Charged
) -> int:
    """How many placements there are before the first that costs more than the cap."""
    caps = [request.max_price_micro_usd_per_gpu_hour for request in requests]
    for place, cost in enumerate(charged.costs.tolist() if any(caps) else ()):
        cap = caps[size_of[place]]
        if cap is not None and cheapest_cap(inventory, cost, 0, requests[size_of[place]]) > cap:
            return place
    return int(charged.costs.size)


def _event(
    state: MarketState,
    command: DeployMany,
    now_us: int,
    groups: Groups,
    found: Gangs,
    charged: _Charged,
    credited: list[int],
) -> LeasesStarted:
    inventory, rules, count = state.inventory, state.books.rules, len(credited)
    counts = found.node_counts[:count]
    nodes, gpus = (of_node[: counts.sum()] for of_node in (found.nodes, found.gpus))
    market, prices = found.markets[: nodes.size], charged.prices[: nodes.size]
    asks = inventory.nodes.ask_micro_usd[nodes]
    used, place = np.unique(market, return_inverse=True)
    lines, line_counts = _lines(inventory, groups, market, asks, gpus, counts)
    lines[:, 0] = np.searchsorted(used, lines[:, 0])
    earners, weights, earner_counts = _earners(inventory.nodes.supplier[nodes], gpus, prices, counts)
    suppliers, earner = np.unique(earners, return_inverse=True)
    curves = inventory.posted_of_market[used].tolist(), inventory.long_run[used].tolist()
    kinds = [
        Kind(request, retry_s, not inventory.is_flat(request.priced_duration_s))
        for request, retry_s in command.kinds
    ]
    flat = all(inventory.is_flat(request.priced_duration_s) for request in groups.shapes)
    return LeasesStarted(
        at_us=now_us,
        first=state.version + 1,
        tenant_id=command.tenant_id,
        request=command.request,
        sizes=list(command.sizes),
        size_of=_i4(np.array(command.size_of[:count])),
        method=command.method,
        keys=command.keys[:count],
        retry_on_loss_s=command.retry_on_loss_s,
        node_counts=_i4(counts),
        nodes=_i4(nodes),
        gpus=_i4(gpus),
        prices_micro_usd_per_gpu_hour=_i8(prices),
        asks_micro_usd_per_gpu_hour=b"" if flat else _i8(asks),
        market_of_node=b"" if flat else _i4(place),
        markets=[inventory.names_by_place[each] for each in used.tolist()],
        curves=[] if flat else list(zip(*curves, strict=True)),
        half_life_h=inventory.half_life_h,
        line_counts=_i4(line_counts),
        lines=_i8(lines),
        rates_micro_usd_per_hour=_i8(charged.rates[:count]),
        totals_micro_usd=_i8(charged.totals[:count]),
        idle_nodes_broken=_i4(found.idle_broken[:count]),
        price_snapshot_id=inventory.price_snapshot_id,
        price_epoch=state.oracle.epoch,
        fleet_version=state.fleet_version,
        parts_ppm=(rules.network_fee_ppm, rules.burn_ppm, rules.make_whole_ppm),
        credits_micro_usd=_i8(np.array(credited, dtype=np.int64)),
        earner_counts=_i4(earner_counts),
        earners=_i4(earner),
        weights=_i8(weights),
        suppliers=[inventory.suppliers.names[code] for code in suppliers.tolist()],
        kinds=kinds,
    )


def _i4(values: Int) -> bytes:
    return values.astype("<i4").tobytes()


def _i8(values: Int) -> bytes:
    return values.astype("<i8").tobytes()


def _lines(
    inventory: Inventory, groups: Groups, market: Int, asks: Int, gpus: Int, counts: Int
) -> tuple[Int, Int]:
    """(lines in the columns of the event, lines of each lease)."""
    parts = []
    for request, leases, nodes in groups.each(counts):
        own = market[nodes], asks[nodes], gpus[nodes], counts[leases]
        parts.append(_lines_alike(inventory, request.priced_duration_s, *own))
    if len(parts) == 1:
        return parts[0]
    lines, line_counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(np.argsort(groups.shape_of, kind="stable"))
    return lines[rows_of(line_counts, order)], line_counts[order]


def _lines_alike(
    inventory: Inventory, duration_s: int, market: Int, asks: Int, gpus: Int, counts: Int
) -> tuple[Int, Int]:
    """The same of leases for one duration."""
    flat, units = inventory.is_flat(duration_s), units_per_hour(duration_s)
    edges = np.array([0, duration_s] if flat else band_edges(0, duration_s), dtype=np.int64)
    rows, markets = curve_rows(inventory, market, duration_s), inventory.markets.size
    parts, line_counts = line_parts(*rows, market, markets, asks, gpus, edges, units, counts)
    band = parts[:, 1]
    rates = parts[:, 7] // (units * duration_s // HOUR_S) if flat else parts[:, 6]
    columns = parts[:, 0], parts[:, 2], parts[:, 3], edges[band], edges[band + 1], parts[:, 4], rates, parts[:, 5]
    return np.stack(columns, axis=1), line_counts


def _earners(supplier: Int, gpus: Int, prices: Int, counts: Int) -> tuple[Int, Int, Int]:
    """(supplier codes and weights, lease by lease; how many of each lease): `ledger.bookings.earners` of each."""
    lease = np.repeat(np.arange(counts.size), counts)
    worth = gpus * prices
    for_nothing = np.bincount(lease, weights=prices > 0, minlength=counts.size) == 0
    worth = np.where(for_nothing[lease], gpus, worth)
    order = np.lexsort((supplier, lease))
    keys = np.stack((lease[order], supplier[order]))
    begins = np.flatnonzero(np.append(True, (np.diff(keys) != 0).any(axis=0)))
    sums = np.add.reduceat(worth[order], begins)
    begins, sums = begins[sums > 0], sums[sums > 0]
    own = keys[0][begins]
    each = np.bincount(own, minlength=counts.size)
    return keys[1][begins], sums // np.gcd.reduceat(sums, begins_of(each))[own], each
