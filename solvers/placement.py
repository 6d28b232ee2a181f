"""Placing one cluster request now: exact in cost, with a certificate.

A gang may have to choose one model, one fabric, or a set of sites that are mutually close; given the choice, the
walk (`solvers.walk`) is exact. Models and fabrics are few: all are tried. Close sites are searched by branch and
bound (`solvers.close_sites`) within `Search.relaxations_max`; beyond it the best placement known is returned with
the bound that was proven: `Placement.lower_bound` < `Placement.rate`, never silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.answer import describe
from solvers.cards import NO_CARD, best_shared
from solvers.close_sites import Branch, CloseSearch
from solvers.distances import RTT_TOLERANCE_MS, Distances
from solvers.kernel import Arrays
from solvers.pools import FABRIC, GPU_COUNT, SITE, START, Pools
from solvers.priced_pools import PricedPools
from solvers.runs import count_by_site
from solvers.seen import Seen
from solvers.sharing.place import least_destroyed
from solvers.spare import Spare
from solvers.turns import place_in_turn
from solvers.walk import NO_LIMIT, best_of

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
NOTHING_KNOWN = np.empty(0, dtype=np.int64)
NO_RATE = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Demand:
    """One request as the solver sees it; codes are indices into the caller's vocabularies.

    `models`: acceptable codes, sorted; `site_ok` (sites,): location and client RTT already decided; `supplier_ok`
    (suppliers,), empty: all. `certifications`: bit mask. `max_replicas_per_supplier`, `max_cluster_rtt_ms`: None:
    no limit. `cpu_milli`, `memory_mib`: of each replica, 0: none. `gpu_milli`: thousandths of the one GPU that is
    wanted, 0: whole GPUs.
    """

    replicas: int
    gpus_per_replica: int
    models: Int
    site_ok: Flags
    supplier_ok: Flags = field(default_factory=lambda: np.empty(0, dtype=bool))
    one_model: bool = True
    tier: int = 0
    certifications: int = 0
    connectivity: int = 0
    interconnect: int = 0
    one_fabric: bool = False
    reliability: float = 0.0
    max_replicas_per_supplier: int | None = None
    max_cluster_rtt_ms: float | None = None
    cpu_milli: int = 0
    memory_mib: int = 0
    gpu_milli: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """Limit of the branch and bound over close sites: relaxations solved per request, at least 1."""

    relaxations_max: int = 400


@dataclass(frozen=True, slots=True)
class Placement:
    """The answer: nodes by id, GPUs and prices, each (nodes,), int64; its sums per market; and the proof.

    `lines` (lines,): 2m for the GPUs of market m at its posted price, 2m + 1 for those whose ask is above it.
    `rate` = Σ gpus·price in micro-USD per hour; no placement has a lower one than `lower_bound`. `idle_broken`:
    nodes with all GPUs free that are taken in part. `card`: where a part stands, NO_CARD of whole GPUs.
    """

    nodes: Int
    gpus: Int
    prices_micro_usd: Int
    lines: Int
    line_gpus: Int
    line_rates: Int
    rate: int
    lower_bound: int
    idle_broken: int
    relaxations: int
    card: int = NO_CARD


class Gangs(NamedTuple):
    """Placements in turn: rate, idle nodes broken and number of nodes of each, (gangs,); of the nodes of all, gang
    by gang and by id, number, GPUs, price and market, (nodes,). All int64."""

    rates: Int
    idle_broken: Int
    node_counts: Int
    nodes: Int
    gpus: Int
    prices_micro_usd: Int
    markets: Int


@dataclass(frozen=True, slots=True)
class NoPlacement:
    """There is none. `proven` is False only if the search limit ended a search over close sites."""

    proven: bool
    relaxations: int


@dataclass(frozen=True, slots=True)
class Options:
    """Alternatives: option o may use the pools listed[first[o]:last[o]], which stand in price order."""

    listed: Int
    first: Int
    last: Int

    def only(self, option: int) -> Options:
        """One of the alternatives alone."""
        return Options(self.listed, self.first[option : option + 1], self.last[option : option + 1])

    def listed_pools(self) -> Int:
        """The pools of all alternatives."""
        parts = [self.listed[a:b] for a, b in zip(self.first.tolist(), self.last.tolist(), strict=True)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def each(self) -> Iterator[Options]:
        """The alternatives, one by one."""
        return (self.only(option) for option in range(self.first.size))


class Placer:
    """Places demands on one fleet. `pools` and `spare` change in place with leases; `distances` is fixed."""

    def __init__(self, pools: Pools, distances: Distances, spare: Spare) -> None:
        self.pools: Pools | PricedPools = pools
        self.distances, self.spare = distances, spare
        self.supply, self.slot_of = supply_of(pools), pools.slot_of
        self._seen = Seen(pools.node.size, pools.histogram.size)
        count = pools.table.shape[0]
        largest = int(pools.table[:, GPU_COUNT].max(initial=0))
        self._lines = np.zeros(2 * pools.markets, dtype=np.int64), np.zeros(2 * pools.markets, dtype=np.int64)
        per_pool = [np.empty(count, dtype=np.int64) for _ in range(7)]
        self.work = (
            per_pool[0],
            np.empty(count, dtype=np.bool_),
            *per_pool[1:],
            *(np.zeros(largest + 1, dtype=np.int64) for _ in range(3)),
            np.zeros(pools.suppliers, dtype=np.int64),
            *(np.empty(pools.node.size, dtype=np.int64) for _ in range(7)),
        )

    def reprice(self) -> None:
        """Take note that the pools have other prices."""
        self.supply = supply_of(self.pools)

    def at(self, priced: PricedPools) -> Placer:
        """The same, at other prices; the working space is shared, so use one of the two at a time."""
        other = copy(self)
        other.pools, other.supply = priced, supply_of(priced)
        return other

    def place(self, demand: Demand, search: Search = Search()) -> Placement | NoPlacement:
        """The cheapest placement of `demand`, ties by the rules in `solvers.walk.best_of` and `solvers.cards`.

        Where `spare.worth` says what is left is worth, one replica with a part of a GPU, CPU or memory goes where,
        at the same cost, it destroys least of that (`solvers.sharing.place`).
        """
        options = self.options(demand)
        if demand.gpu_milli:
            found = self._place_part(demand, options)
        elif demand.cpu_milli or demand.memory_mib:
            found = self._seen_by(demand)._place_whole(demand, options, search)
        else:
            return self._place_whole(demand, options, search)
        if self.spare.worth is None or demand.replicas > 1 or isinstance(found, NoPlacement):
            return found
        return self._where_least_is_destroyed(demand, options, found, self.spare.worth)

    def place_many(self, demand: Demand, replicas: Int) -> Gangs:
        """Place the demand again and again with so many replicas, (gangs,), until one finds no place.

        Each is what `place` gives once the ones before are taken; nothing is taken in the end. The demand is for
        whole GPUs, with no CPU, memory, supplier share or close sites.
        """
        options = self.options(demand)
        return Gangs(
            *place_in_turn(
                self.supply,
                filters_of(demand, demand.site_ok),
                self.work,
                self.pools.node,
                options.listed,
                options.first,
                options.last,
                demand.gpus_per_replica,
                replicas,
                NO_RATE,
            )
        )

    def _place_whole(self, demand: Demand, options: Options, search: Search) -> Placement | NoPlacement:
        if demand.max_cluster_rtt_ms is None:
            best = self._relax(demand, options, demand.site_ok)
            return NoPlacement(True, 1) if best is None else self._answer(demand, best, best.rate, 1)
        return self._place_close(demand, options, demand.max_cluster_rtt_ms + RTT_TOLERANCE_MS, search)

    def _place_part(self, demand: Demand, options: Options) -> Placement | NoPlacement:
        models = np.zeros(self.pools.model_start.size - 1, dtype=np.bool_)
        models[demand.models] = True
        filters, beside = filters_of(demand, demand.site_ok), (demand.cpu_milli, demand.memory_mib)
        size = demand.gpu_milli, *beside
        slot, card, rate = best_shared(self.supply, filters, models, self.slot_of, self.spare.arrays(), *size)
        whole = (self._seen_by(demand) if any(beside) else self)._relax(demand, options, demand.site_ok)
        if whole is not None and whole.rate < rate:
            found = self._answer(demand, whole, whole.rate, 1)
            return replace(found, card=self.spare.cards.first_whole(int(found.nodes[0])))
        if slot < 0:
            return NoPlacement(True, 1)
        one, slots = np.ones(1, dtype=np.int64), np.array([slot])
        columns = describe(self.supply, self.pools.node, slots, one, 1, *self._lines)
        return Placement(*columns, rate, rate, idle_broken=0, relaxations=1, card=card)

    def _where_least_is_destroyed(
        self, demand: Demand, options: Options, found: Placement, worth: Arrays
    ) -> Placement:
        """Another place for one replica at the price of the one found."""
        g, spare = demand.gpus_per_replica, self.spare
        need = g, demand.gpu_milli, demand.cpu_milli, demand.memory_mib
        filters, row_of = filters_of(demand, demand.site_ok), spare.cards.row_of
        slot, card = least_destroyed(
            self.supply,
            filters,
            options.listed_pools(),
            self.pools.node,
            row_of,
            spare.arrays(),
            worth,
            need,
            found.rate // g,
        )
        slots, node = np.array([slot]), int(self.pools.node[slot])
        if demand.gpu_milli and card == NO_CARD:
            card = spare.cards.first_whole(node)
        free, count = self.pools.free[slot], self.pools.table[self.pools.pool_of[slot], GPU_COUNT]
        on_whole_card = card == NO_CARD or card not in spare.cards.of(node)
        columns = describe(self.supply, self.pools.node, slots, np.ones(1, dtype=np.int64), g, *self._lines)
        broken = int(on_whole_card and free == count and g < count)
        return Placement(*columns, found.rate, found.lower_bound, broken, found.relaxations, card)

    def _seen_by(self, demand: Demand) -> Placer:
        """The same, for demands that need CPU or memory as this one does."""
        other = copy(self)
        size = demand.gpus_per_replica, demand.cpu_milli, demand.memory_mib
        other.supply = self._seen.supply(self.supply, self.pools, self.spare, demand.models, size)
        return other

    def options(self, demand: Demand) -> Options:
        """The alternatives of which a gang must choose one: models, fabrics, or neither."""
        pools, models = self.pools, demand.models
        if not demand.one_fabric and (demand.one_model or models.size == 1):
            return Options(pools.by_price, pools.model_start[models], pools.model_start[models + 1])
        if demand.one_model:
            spans = [np.arange(pools.fabrics_of[m], pools.fabrics_of[m + 1]) for m in models]
            parts = np.concatenate(spans or [np.empty(0, dtype=np.int64)])
            return Options(pools.by_fabric, pools.fabric_start[parts], pools.fabric_start[parts + 1])
        listed = np.concatenate(
            [pools.by_price[pools.model_start[m] : pools.model_start[m + 1]] for m in models]
            or [np.empty(0, dtype=np.int64)]
        )
        table = pools.table[listed]
        fabric = table[:, FABRIC] if demand.one_fabric else np.zeros(listed.size, dtype=np.int64)
        order = np.lexsort((pools.merit[table[:, START]], pools.from_price[listed], fabric))
        first = np.flatnonzero(np.diff(fabric[order], prepend=-2))
        last = np.append(first[1:], order.size) if first.size else first
        return Options(listed[order], first, last)

    def _place_close(
        self, demand: Demand, options: Options, limit_ms: float, search: Search
    ) -> Placement | NoPlacement:
        close = CloseSearch(
            lambda option, site_ok: self._relax(demand, option, site_ok),
            self.distances,
            limit_ms,
            search.relaxations_max,
        )
        for option in options.each():
            close.add(option, demand.site_ok, partial(self.room_of_sites, demand, option), demand.replicas)
        found = close.run()
        if found.branch is None:
            return NoPlacement(found.proven, found.relaxations)
        return self._answer(demand, found.branch, found.bound, found.relaxations)

    def room_of_sites(self, demand: Demand, option: Options) -> Int:
        """Replicas that each site could take, (sites,), of one option."""
        capacity = np.zeros(demand.site_ok.size, dtype=np.int64)
        listed = option.listed[option.first[0] : option.last[0]]
        filters = filters_of(demand, demand.site_ok)
        count_by_site(self.supply, filters, listed, demand.gpus_per_replica, capacity)
        return capacity

    def _relax(self, demand: Demand, options: Options, site_ok: Flags) -> Branch | None:
        """The best placement over `options` on the allowed sites; None if there is none."""
        cap = demand.max_replicas_per_supplier
        best, rate, broken, slots, take = best_of(
            self.supply,
            filters_of(demand, site_ok),
            self.work,
            options.listed,
            options.first,
            options.last,
            demand.gpus_per_replica,
            demand.replicas,
            NO_LIMIT if cap is None else cap,
            NO_RATE,
            NOTHING_KNOWN,
        )
        if best < 0:
            return None
        sites = self.pools.table[self.pools.pool_of[slots], SITE]
        return Branch(options.only(best), site_ok, rate, broken, slots, take, sites)

    def _answer(self, demand: Demand, found: Branch, bound: int, relaxations: int) -> Placement:
        pools = self.pools
        by_id = np.argsort(pools.rank[found.slots])
        slots, take = found.slots[by_id], found.take[by_id]
        columns = describe(self.supply, pools.node, slots, take, demand.gpus_per_replica, *self._lines)
        return Placement(
            *columns,
            rate=found.rate,
            lower_bound=bound,
            idle_broken=found.broken,
            relaxations=relaxations,
        )


def supply_of(pools: Pools | PricedPools) -> Arrays:
    """The pools as kernels take them. Entry 3 is what a slot costs behind the base, 12 its ask."""
    return (
        pools.table,
        pools.reliability_low,
        pools.reliability_high,
        pools.cost,
        pools.merit,
        pools.free,
        pools.supplier,
        pools.rank,
        pools.reliability,
        pools.histogram,
        pools.from_price,
        pools.pool_of,
        pools.ask,
        pools.left,
    )


def filters_of(demand: Demand, site_ok: Flags) -> tuple[Flags, Flags, int, int, int, int, bool, float]:
    """The part of a demand that decides which nodes may serve it, as the kernels take it."""
    return (
        site_ok,
        demand.supplier_ok,
        demand.tier,
        demand.certifications,
        demand.connectivity,
        demand.interconnect,
        demand.one_fabric,
        demand.reliability,
    )
