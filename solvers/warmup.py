"""Compiling every kernel, or loading it from the cache, before the first request waits for it."""

from __future__ import annotations

from functools import cache

import numpy as np

from solvers.audited import gang_of, paid_by_hour
from solvers.distances import Distances
from solvers.forward import (
    Curves,
    average_prices,
    averages_of,
    cost,
    groups_of,
    least_sums,
    line_parts,
    span_costs,
)
from solvers.mixed_turns import place_mixed
from solvers.most import NO_LIMIT, most_by_group, whole_of_pools
from solvers.node_rows import COLUMNS, columns_of, take_gpus
from solvers.placement import Demand, Placer
from solvers.pools import NodeColumns, Pools
from solvers.priced_pools import PricedPools
from solvers.shares import shares_of
from solvers.sharing.fleet import Shapes
from solvers.sharing.worth import Wants, cleared, states_of
from solvers.spare import Spare
from solvers.wake import NO_PRICE, ORDER_COLUMNS, could_hold, could_use, least_asks, room_by_pool


def warm_up() -> None:
    """Place a few tiny demands that between them call every kernel with the types used in earnest."""
    placer = _tiny()
    models, sites = np.array([0]), np.ones(2, dtype=bool)
    for demand in (
        Demand(3, 1, models, sites),
        Demand(2, 3, models, sites, supplier_ok=np.ones(2, dtype=bool), reliability=0.5),
        Demand(4, 1, models, sites, max_replicas_per_supplier=2),
        Demand(4, 1, models, sites, max_cluster_rtt_ms=1.0, one_fabric=True),
        Demand(4, 1, models, sites, cpu_milli=10, memory_mib=10),
        Demand(1, 1, models, sites, gpu_milli=500),
    ):
        placer.place(demand)
    _place_at_forward_prices(placer, Demand(3, 1, models, sites))
    close = Demand(4, 1, models, sites, max_cluster_rtt_ms=1.0)
    placer.room_of_sites(close, next(placer.options(close).each()))  # what only a long search asks for
    placer.place_many(Demand(3, 1, models, sites), np.array([1, 3]))
    _place_mixed(placer, Demand(1, 1, models, sites))
    placer.distances.from_position(0.0, 0.0)
    assert isinstance(placer.pools, Pools)
    placer.pools.set_free(np.array([0]), np.array([1]))
    table = np.zeros((1, COLUMNS), dtype=np.int64)
    columns_of(table, table[0, :1], table[0, :1])
    take_gpus(table, table[0, :1], table[0, :1])
    _count(placer.pools)
    _wake(placer.pools)


@cache
def warm_up_worth() -> None:
    """The same for what only a market with parts of GPUs, CPU or memory needs; once."""
    placer = _tiny()
    zeros, ones, spare = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), placer.spare
    shapes = Shapes(zeros, zeros, ones, 500 * ones, np.ones((1, 1), dtype=bool))
    states = states_of(np.zeros(4, dtype=np.int64), 8 * np.ones(4, dtype=np.int64), spare, 8)
    wants = Wants(shapes, np.ones(1), 500 * np.ones(1))
    spare.worth = cleared(wants, states, (1.0, 1.0), np.ones(0)).arrays()
    placer.place(Demand(1, 1, np.array([0]), np.ones(2, dtype=bool), gpu_milli=500))


def _place_mixed(placer: Placer, demand: Demand) -> None:
    """One shape at two prices."""
    assert isinstance(placer.pools, Pools)
    ones = np.ones(1, dtype=np.int64)
    priced = PricedPools(placer.pools, lambda markets, s: Curves.of(2 * ones, ones, 48.0, s), 7_200)
    place_mixed([(placer, demand), (placer.at(priced), demand)], np.array([0, 1]), np.array([1, 1]))


def _place_at_forward_prices(placer: Placer, demand: Demand) -> None:
    assert isinstance(placer.pools, Pools)
    zeros, ones = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    priced = PricedPools(placer.pools, lambda markets, s: Curves.of(2 * ones, ones, 48.0, s), 7_200)
    priced.show(demand.models)
    placer.at(priced).place(demand)
    priced.move_free(zeros, ones)
    curves = Curves.of(ones, ones, 48.0, 7_200)
    line_parts(curves.rate, curves.running, zeros, zeros, zeros, 1, ones, ones, np.array([0, 7_200]), 1, ones)
    cost(curves.rate[0], curves.running[0], 0, 7_200, 1, 1)
    average_prices(ones, 1, 7_200)
    averages_of(ones, ones, 1, 7_200)
    groups_of(zeros, 1, ones)
    gang_of(zeros, zeros, ones, zeros, ones)
    shares_of(zeros, 1, *(np.frombuffer(bytes(8), dtype=kind)[:1] for kind in ("<i4", "<i4", "<i8")))
    paid_by_hour(curves.rate, zeros, ones, 1, 1)
    spans = span_costs(curves.rate, curves.running, zeros, ones, np.array([0, 7_200]))
    least_sums(*spans, *spans, ones)
    placer.pools.reprice(2 * ones)


def _count(pools: Pools) -> None:
    everyone = np.arange(pools.node.size)
    group = np.zeros(pools.node.size, dtype=np.int64)
    taken = np.zeros(pools.node.size, dtype=np.int64)
    most_by_group(everyone, pools.free, 1, group, 1, pools.supplier, 2, NO_LIMIT, pools.ask, NO_LIMIT, taken)
    whole_of_pools(pools.table, pools.free, 1)


def _wake(pools: Pools) -> None:
    zeros, ones, flags = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), np.ones((1, 2), dtype=bool)
    orders = (np.zeros((1, ORDER_COLUMNS), dtype=np.int64), np.zeros(1), flags[:, :1], flags, flags)
    could_use(orders, zeros, (*(zeros for _ in range(8)), np.ones(1), ones))
    count = pools.table.shape[0]
    fold = pools.table, pools.reliability_high, pools.model_start
    prices = np.ones((2, count), dtype=np.int64)
    least_asks(orders, 0, *fold, prices[0], np.full(1, NO_PRICE))
    room = np.zeros((1, count), dtype=np.int64)
    room_by_pool(pools.pool_of, pools.free, 1, room[0])
    could_hold(orders, zeros, *fold, (prices, np.stack([np.arange(count)] * 2), room), zeros)


def _tiny() -> Placer:
    zeros, ones = np.zeros(4, dtype=np.int64), np.ones(4, dtype=np.int64)
    place = np.array([0, 0, 1, 1])
    nodes = NodeColumns(
        model=zeros,
        site=place,
        tier=zeros,
        certifications=zeros,
        connectivity=zeros,
        interconnect=zeros,
        fabric=zeros,
        supplier=np.array([0, 1, 0, 1]),
        gpu_count=8 * ones,
        ask_micro_usd=ones,
        reliability=np.array([0.4, 1.0, 1.0, 1.0]),
        rank=np.arange(4),
    )
    none = np.empty(0, dtype=np.int64)
    distances = Distances(np.zeros(2), np.array([0.0, 90.0]), none, none, np.empty(0))
    spare = Spare(100 * ones, 100 * ones, 8)
    spare.is_open[:] = True
    return Placer(Pools(nodes, 8 * ones, zeros, np.array([2]), 1), distances, spare)
