"""Pools: nodes that no request can tell apart, folded together, with their free GPUs kept up to date in place.

A pool is (model, fabric, site, tier, certifications, connectivity, interconnect, GPUs per node). Requests see
three more attributes, which stay with the nodes because they would shatter the pools: ask, reliability and
supplier. Inside a pool nodes stand in *slots*, sorted by merit: (ask, -reliability, node id). The slots whose
ask does not exceed the market's posted price all cost the posted price: they are the pool's *base*, and a
histogram of their free GPUs answers "how many replicas of g GPUs" without looking at a node. The slots after
the base cost their ask, one by one.

Pools are sorted by model, then fabric. `by_price` lists the pools of each model by the least price any of their
nodes may have, which does not depend on what is free: a walk in that order can stop early.
A lease changes `free` and one histogram cell per node, in place (`set_free`); nothing is rebuilt. New posted
prices move the bases, in place (`reprice`). `solvers.priced_pools` shows the same pools at other prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]

# Columns of `Pools.table`.
START, BASE, END, MODEL, SITE, TIER, CERTIFICATIONS, CONNECTIVITY, INTERCONNECT, FABRIC = range(10)
GPU_COUNT, SUPPLIER, MARKET, POSTED, HISTOGRAM = range(10, 15)
COLUMNS = 15
MIXED = -1
"""Value of SUPPLIER in a pool of several suppliers; `FABRIC` uses -1 for "on no fabric"."""


@dataclass(frozen=True, slots=True)
class NodeColumns:
    """Static attributes of all nodes, each of shape (nodes,). Codes are indices into the caller's vocabularies."""

    model: Int
    site: Int
    tier: Int
    certifications: Int
    """Bit mask."""
    connectivity: Int
    interconnect: Int
    fabric: Int
    """-1: on no fabric."""
    supplier: Int
    gpu_count: Int
    ask_micro_usd: Int
    reliability: NDArray[np.float64]
    rank: Int
    """Position of the node in the order of node ids: the last tie-break."""


class Pools:
    """The folded fleet.

    Arrays (all contiguous, int64 unless said otherwise): `table` (pools, COLUMNS); `reliability_low`,
    `reliability_high` (pools,) float64; per slot: `node`, `ask`, `merit`, `free`, `supplier`, `rank`,
    `pool_of`, `reliability` float64; `slot_of` (nodes,); `left` (pools,): their free GPUs; `histogram` flat,
    cell HISTOGRAM + f counts base slots with f free GPUs; `by_price`, pools of model m at [model_start[m],
    model_start[m + 1]); `from_price` (pools,) the least price of a pool; `by_fabric`: pools on a fabric by
    (model, fabric, from_price, merit), one model's part of one fabric at [fabric_start[i], fabric_start[i + 1]),
    those of model m being i in [fabrics_of[m], fabrics_of[m + 1]). `cost`: what a slot behind the base costs,
    which is its ask.
    """

    def __init__(self, nodes: NodeColumns, free: Int, market: Int, posted_micro_usd: Int, models: int) -> None:
        """Fold. `free` (nodes,): GPUs that may be placed on now. `market` (nodes,): the market of each node, equal
        within a pool by construction of markets; `posted_micro_usd` (markets,): their posted prices."""
        self.markets = posted_micro_usd.size
        merit_order = np.lexsort((nodes.rank, -nodes.reliability, nodes.ask_micro_usd))
        merit = np.empty_like(merit_order)
        merit[merit_order] = np.arange(merit.size)
        keys = (
            nodes.gpu_count,
            nodes.interconnect,
            nodes.connectivity,
            nodes.certifications,
            nodes.tier,
            nodes.site,
            nodes.fabric,
            nodes.model,
        )
        order = np.lexsort((merit, *keys))
        boundary = np.zeros(order.size, dtype=bool)
        boundary[:1] = True
        for key in keys:
            boundary[1:] |= np.diff(key[order]) != 0
        start = np.flatnonzero(boundary)
        self.node = np.ascontiguousarray(order)
        self.ask = self.cost = nodes.ask_micro_usd[order]
        self.merit = merit[order]
        self.rank = nodes.rank[order]
        self.supplier = nodes.supplier[order]
        self.suppliers = int(nodes.supplier.max(initial=-1)) + 1
        self.reliability = nodes.reliability[order]
        self.free = free[order]
        self.views: list[PricedView] = []
        self.pool_of = np.cumsum(boundary) - 1
        self.left = np.bincount(self.pool_of, weights=self.free, minlength=start.size).astype(np.int64)
        self.slot_of = np.empty_like(order)
        self.slot_of[order] = np.arange(order.size)
        self._fill_table(nodes, start, market, posted_micro_usd)
        self.histogram = np.zeros(int((self.table[:, GPU_COUNT] + 1).sum()), dtype=np.int64)
        set_base(self.table, self.ask, self.free, self.histogram)
        self.model_start = np.searchsorted(self.table[:, MODEL], np.arange(models + 1))
        self._order_by_price()

    def _fill_table(self, nodes: NodeColumns, start: Int, market: Int, posted_micro_usd: Int) -> None:
        first = self.node[start]
        end = np.append(start[1:], self.node.size)
        table = np.empty((start.size, COLUMNS), dtype=np.int64)
        table[:, START], table[:, END] = start, end
        table[:, MODEL], table[:, SITE] = nodes.model[first], nodes.site[first]
        table[:, TIER], table[:, CERTIFICATIONS] = nodes.tier[first], nodes.certifications[first]
        table[:, CONNECTIVITY] = nodes.connectivity[first]
        table[:, INTERCONNECT] = nodes.interconnect[first]
        table[:, FABRIC], table[:, GPU_COUNT] = nodes.fabric[first], nodes.gpu_count[first]
        table[:, MARKET] = market[first]
        table[:, POSTED] = posted_micro_usd[market[first]]
        if start.size:
            low, high = np.minimum.reduceat(self.supplier, start), np.maximum.reduceat(self.supplier, start)
            table[:, SUPPLIER] = np.where(low == high, low, MIXED)
            self.reliability_low = np.minimum.reduceat(self.reliability, start)
            self.reliability_high = np.maximum.reduceat(self.reliability, start)
        else:
            self.reliability_low = self.reliability_high = np.empty(0)
        cells = table[:, GPU_COUNT] + 1
        table[:, HISTOGRAM] = np.cumsum(cells) - cells
        self.table = table

    def _order_by_price(self) -> None:
        table = self.table
        self.from_price = np.maximum(self.ask[table[:, START]], table[:, POSTED])
        order = np.lexsort((self.merit[table[:, START]], self.from_price))
        self.by_price = order[np.argsort(table[order, MODEL], kind="stable")]
        on_fabric = order[table[order, FABRIC] >= 0]
        self.by_fabric = on_fabric[np.lexsort((table[on_fabric, FABRIC], table[on_fabric, MODEL]))]
        model, fabric = table[self.by_fabric, MODEL], table[self.by_fabric, FABRIC]
        starts = np.diff(model, prepend=-1) | np.diff(fabric, prepend=-1)
        self.fabric_start = np.append(np.flatnonzero(starts), self.by_fabric.size)
        self.fabrics_of = np.searchsorted(model[self.fabric_start[:-1]], np.arange(self.model_start.size))

    def reprice(self, posted_micro_usd: Int) -> None:
        """Take over other posted prices, (markets,), in place; views at old prices are let go."""
        self.views.clear()
        self.table[:, POSTED] = posted_micro_usd[self.table[:, MARKET]]
        self.histogram[:] = 0
        set_base(self.table, self.ask, self.free, self.histogram)
        self._order_by_price()

    def set_free(self, nodes: Int, free: Int) -> None:
        """Set the GPUs that may be placed on, of some nodes (each named once); in place."""
        slots = self.slot_of[nodes]
        for view in self.views:
            view.move_free(slots, free)
        move_free(self.table, self.free, self.histogram, self.left, self.pool_of, slots, free)


class PricedView(Protocol):
    """Pools at other prices, which share `free`."""

    def move_free(self, slots: Int, free: Int) -> None:
        """Note that slots are about to have other free counts."""


@kernel
def set_base(table: Int, ask: Int, free: Int, histogram: Int) -> None:
    """Set the end of every pool's base and count its slots by free GPUs into `histogram` (zeros on entry)."""
    for pool in range(table.shape[0]):
        cell, slot = table[pool, HISTOGRAM], table[pool, START]
        while slot < table[pool, END] and ask[slot] <= table[pool, POSTED]:
            histogram[cell + free[slot]] += 1
            slot += 1
        table[pool, BASE] = slot


@kernel
def move_free(table: Int, free: Int, histogram: Int, left: Int, pool_of: Int, slots: Int, new_free: Int) -> None:
    """Give `slots` new free counts; `free`, `histogram` and `left` are mutated together."""
    for index in range(slots.size):
        slot = slots[index]
        pool = pool_of[slot]
        if slot < table[pool, BASE]:
            cell = table[pool, HISTOGRAM]
            histogram[cell + free[slot]] -= 1
            histogram[cell + new_free[index]] += 1
        left[pool] += new_free[index] - free[slot]
        free[slot] = new_free[index]
