"""D(p): the bound that node prices prove, recomputed from the files (docs/planning.md, rule 7).

For each request the least Σ p_j·x_ij + M·moved_i over its own feasible placements. A node is a run of *slots* of g
GPUs, ⌊capacity / g⌋ of them, fewer where CPU or memory limits them, at g·p_j each; GPUs that stay on their node
pay M less. Slots are independent of each other but for the group (one model, one fabric) and the suppliers'
shares, so taking the cheapest is exact: for shares because a limit per supplier is a partition matroid. With
`max_cluster_rtt_ms` the star bound takes the place of the minimum: the cheapest slots within the limit of one site
that could hold a replica.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from engine.domain.cluster_request import SHARE_TOLERANCE
from engine.planning.certificate_distances import RTT_TOLERANCE_MS, RoundTrips
from engine.planning.certificate_ledger import Ledger
from engine.planning.certificate_offers import Offers, least_of_groups, least_of_stars, limited
from engine.planning.certificate_supply import Flags, Int, Request, Shelf, Supply

SHADOW_PRICE, ASK = "shadow_price_micro_usd_per_gpu_hour", "ask_micro_usd_per_gpu_hour"
FIRST_NODES = 1_024
"""Nodes that are looked at first; most clusters need no more of the cheapest."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one request runs on now: node numbers and GPUs of pinned rows and of rows that may stay."""

    pinned_node: Int
    pinned_gpus: Int
    movable_node: Int
    movable_gpus: Int


def dual_value(ledger: Ledger, least: Mapping[str, float]) -> float:
    """D(p) in micro-USD per hour, of the prices in `node_prices.parquet` and the `least_costs` at them."""
    fleet = ledger.fleet
    surplus = fleet[SHADOW_PRICE] - fleet[ASK]
    sellers = (fleet["capacity"] + fleet["all_left"] / 1_000) * surplus.clip(lower_bound=0.0)
    buyers = (_gain(request, least[request["request_id"]]) for request in ledger.requests.iter_rows(named=True))
    return math.fsum(buyers) + math.fsum(sellers)


def _gain(request: Request, least: float) -> float:
    if math.isinf(least):
        return 0.0
    gain: float = worth(request) - least
    return gain if request["must_serve"] else max(0.0, gain)


def worth(request: Request) -> int:
    """What a request is worth if it is served, micro-USD per hour."""
    return _share(request["gpu_count"] * request["value"], request)


def _share(money: int, request: Request) -> int:
    """What a request is worth or pays, of a part its share, rounded up."""
    milli = request["part_milli"]
    return -(-money * milli // 1_000) if milli else money


def least_costs(
    ledger: Ledger, trips: RoundTrips, requests: pl.DataFrame | None = None, price: str = SHADOW_PRICE
) -> dict[str, float]:
    """m_i at the prices of the plan, or at another `price` of the fleet, by request id: inf where no placement of
    its own exists. Of all requests, or of some of them."""
    search = _Search(ledger, Supply(ledger.fleet, trips, price))
    by_shelf: dict[tuple[tuple[str, ...] | None, bool, bool], list[Request]] = {}
    for request in (ledger.requests if requests is None else requests).iter_rows(named=True):
        models = request["gpu_models"]
        named = None if models is None else tuple(sorted(set(models)))
        key = (named, not request["allow_mixed_models"], request["same_fabric"])
        by_shelf.setdefault(key, []).append(request)
    least: dict[str, float] = {}
    for (named, one_model, one_fabric), alike in by_shelf.items():
        shelf = search.supply.shelf(named, one_model=one_model, one_fabric=one_fabric)
        least |= {request["request_id"]: search.least_cost(request, shelf) for request in alike}
    return least


class _Search:
    def __init__(self, ledger: Ledger, supply: Supply) -> None:
        self.supply = supply
        self._ask = ledger.fleet[ASK].to_numpy()
        self._move_cost = ledger.files.report["move_cost_micro_usd"]
        self._held = _held(ledger)

    def least_cost(self, request: Request, shelf: Shelf) -> float:
        """m_i of one request; `shelf` holds the nodes of its models, grouped as it asks."""
        held = self._held.get(request["request_id"])
        kept = self.supply.eligible(request, shelf.classes)
        shared = request["max_supplier_share"] is not None
        alone = held is None and not any(request[need] for need in ("part_milli", "cpu_milli", "memory_mib"))
        if alone and not shared and not request["same_fabric"] and request["max_cluster_rtt_ms"] is None:
            return _least_of_runs(shelf, kept, request["gpus_per_node"], request["gpu_count"])
        return self._least_of_offers(request, shelf, kept[shelf.folded], held)

    def _least_of_offers(self, request: Request, shelf: Shelf, kept: Flags, held: Held | None) -> float:
        size, need, fixed = request["gpus_per_node"], request["gpu_count"], 0.0
        if held is not None:
            need -= int(held.pinned_gpus.sum())
            asks = zip(held.pinned_gpus.tolist(), self._ask[held.pinned_node].tolist(), strict=True)
            fixed = float(sum(_share(gpus * ask, request) for gpus, ask in asks))
            fixed += _share(self._move_cost * int(held.movable_gpus.sum()), request)
            kept &= self._joins_pinned(request, held, shelf)
        if need == 0:
            return fixed
        offers = self._offers(shelf, np.flatnonzero(kept), request, held)
        most, limit_ms = self._supplier_slots(request, held), request["max_cluster_rtt_ms"]
        if limit_ms is not None:
            return fixed + least_of_stars(offers, lambda sites: self._near(sites, limit_ms), need // size, most)
        if most is not None:
            offers = limited(offers, (offers.supplier, offers.group), most[offers.supplier])
        return fixed + least_of_groups(offers, need // size)

    def _offers(self, shelf: Shelf, chosen: Int, request: Request, held: Held | None) -> Offers:
        node = shelf.node[chosen]
        slots = self.supply.slots(request, node)
        size = request["part_milli"] / 1_000 or request["gpus_per_node"]
        site, supplier = self.supply.site[node], self.supply.supplier[node]
        offers = Offers(shelf.group[chosen], site, supplier, size * shelf.price[chosen], slots)
        if held is not None:
            offers = self._with_stays(offers, node, held, request)
        return offers[offers.slots > 0]

    def _joins_pinned(self, request: Request, held: Held, shelf: Shelf) -> Flags:
        """Nodes of the shelf that may stand beside the pinned rows."""
        kept, supply = np.ones(shelf.node.size, bool), self.supply
        for pinned in held.pinned_node.tolist():
            if not request["allow_mixed_models"]:
                kept &= supply.model[shelf.node] == supply.model[pinned]
            if request["same_fabric"]:
                kept &= supply.fabric[shelf.node] == supply.fabric[pinned]
            if request["max_cluster_rtt_ms"] is not None:
                rtt_ms = supply.trips.from_site(int(supply.site[pinned]))
                near = rtt_ms <= request["max_cluster_rtt_ms"] + RTT_TOLERANCE_MS
                kept &= near[supply.site[shelf.node]]
        return kept

    def _near(self, sites: Int, limit_ms: float) -> Flags:
        rtt_ms = np.array([self.supply.trips.from_site(site) for site in sites.tolist()])[:, sites]
        near: Flags = rtt_ms <= limit_ms + RTT_TOLERANCE_MS
        return near

    def _with_stays(self, offers: Offers, node: Int, held: Held, request: Request) -> Offers:
        """The same, with slots that GPUs need not leave set apart at M less per GPU."""
        here = np.zeros(self.supply.capacity.size, np.int64)
        here[held.movable_node] = held.movable_gpus
        size = request["gpus_per_node"]
        stays = np.minimum(here[node] // size, offers.slots)
        some = stays > 0
        columns = (offers.group, offers.site, offers.supplier)
        group, site, supplier = (np.concatenate([column, column[some]]) for column in columns)
        cost = np.concatenate([offers.cost, offers.cost[some] - _share(size * self._move_cost, request)])
        slots = np.concatenate([offers.slots - stays, stays[some]])
        return Offers(group, site, supplier, cost, slots)[np.lexsort((cost, group))]

    def _supplier_slots(self, request: Request, held: Held | None) -> Int | None:
        """Slots each supplier may still give, shape (suppliers,); None: no limit."""
        if request["max_supplier_share"] is None:
            return None
        share = math.floor(request["max_supplier_share"] * request["gpu_count"] + SHARE_TOLERANCE)
        most = np.full(len(self.supply.suppliers), share)
        if held is not None:
            np.subtract.at(most, self.supply.supplier[held.pinned_node], held.pinned_gpus)
        slots: Int = np.maximum(0, most) // request["gpus_per_node"]
        return slots


def _held(ledger: Ledger) -> Mapping[str, Held]:
    """By request id: its rows now. Rows on nodes that are not READY may not stay: they have no capacity there."""
    numbers = ledger.fleet.select("node_id", node=pl.int_range(pl.len()))
    running = ledger.running.join(numbers, on="node_id", maintain_order="left").select(
        "request_id", "node", "gpus", "pinned"
    )
    held = {}
    for (request_id,), rows in running.group_by("request_id"):
        stays, moves = rows.filter("pinned"), rows.filter(~pl.col("pinned"))
        columns = (frame[name].to_numpy() for frame in (stays, moves) for name in ("node", "gpus"))
        held[str(request_id)] = Held(*columns)
    return held


def _least_of_runs(shelf: Shelf, kept: Flags, size: int, gpus: int) -> float:
    """The least cost of a cluster that asks for whole replicas in one run, and for no more."""
    least = math.inf
    for start, end in shelf.runs:
        cost, need, width = 0.0, gpus // size, FIRST_NODES
        while need and start < end and cost < least:
            rows = slice(start, min(start + width, end))
            chosen = np.flatnonzero(kept[shelf.folded[rows]])
            slots = shelf.capacity[rows][chosen] // size
            taken = np.clip(need - (np.cumsum(slots) - slots), 0, slots)
            cost += size * float((taken * shelf.price[rows][chosen]).sum())
            need -= int(taken.sum())
            start, width = start + width, 4 * width
        least = min(least, cost) if need == 0 else least
    return least
