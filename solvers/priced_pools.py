"""The pools at the costs of one duration: what `solvers.placement` minimises where forward curves are not flat.

Inside a market the cost of a node is a monotone function of its ask (`solvers.forward.cost`), so pools, slots and
their merit order stay; only the base (the slots that cost no more than the curve itself) ends elsewhere, and the
pools come in another order. Both are made model by model when a request wants the model, and then kept up to date.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.forward import LARGEST, Curves, cost, units_per_hour
from solvers.kernel import kernel
from solvers.pools import BASE, END, FABRIC, HISTOGRAM, MARKET, MODEL, POSTED, START, Pools

Int = NDArray[np.int64]
CurvesOf = Callable[[Int, int], Curves]
"""(markets, duration in seconds) → their curves."""


class PricedPools:
    """Pools whose prices are costs of one GPU over `duration_s`, `units` per micro-dollar, at most `most`.

    Arrays as in `Pools`; `table` (POSTED: cost at the curve), `cost`, `histogram`, `from_price`, `by_price` and
    `by_fabric` are its own and hold only what belongs to the models that `show` was called with, but for MODEL.
    """

    def __init__(self, pools: Pools, curves_of: CurvesOf, duration_s: int, most: int = LARGEST) -> None:
        self._pools, self._curves_of, self.duration_s, self._most = pools, curves_of, duration_s, most
        self.units = units_per_hour(duration_s)
        self.table, self.cost = np.empty_like(pools.table), np.empty_like(pools.ask)
        self.table[:, MODEL] = pools.table[:, MODEL]  # shared cards are looked at by node, whatever their model
        self.histogram, self.from_price = np.zeros_like(pools.histogram), np.empty_like(pools.from_price)
        self.by_price, self.by_fabric = np.empty_like(pools.by_price), np.empty_like(pools.by_fabric)
        self.shown = np.zeros(pools.model_start.size - 1, dtype=np.bool_)
        self.largest = 0
        """The largest cost of any slot shown."""
        self.reliability_low, self.reliability_high = pools.reliability_low, pools.reliability_high
        self.merit, self.free, self.left = pools.merit, pools.free, pools.left
        self.supplier, self.suppliers = pools.supplier, pools.suppliers
        self.rank, self.reliability, self.pool_of = pools.rank, pools.reliability, pools.pool_of
        self.ask, self.node, self.markets = pools.ask, pools.node, pools.markets
        self.model_start, self.fabric_start = pools.model_start, pools.fabric_start
        self.fabrics_of = pools.fabrics_of

    def show(self, models: Int) -> None:
        """Make the pools of these models ready."""
        for model in models[~self.shown[models]].tolist():
            self._show(model)

    def _show(self, model: int) -> None:
        first, last = self.model_start[model : model + 2].tolist()
        own = slice(first, last)
        self.table[own] = self._pools.table[own]
        markets, row = np.unique(self.table[own, MARKET], return_inverse=True)
        curves = self._curves_of(markets, self.duration_s)
        largest = price_pools(
            self.table[own], row, curves.rate, curves.running, self.ask, self.free, self.duration_s, self.units,
            self._most, self.cost, self.histogram, self.from_price[own],
        )  # fmt: skip
        merit, price = self.merit[self.table[own, START]], self.from_price[own]
        self.by_price[own] = first + np.lexsort((merit, price))
        on_fabric = slice(*self.fabric_start[self.fabrics_of[model : model + 2]].tolist())
        pools = self._pools.by_fabric[on_fabric]
        keys = self.merit[self.table[pools, START]], self.from_price[pools], self.table[pools, FABRIC]
        self.by_fabric[on_fabric] = pools[np.lexsort(keys)]
        self.largest, self.shown[model] = max(self.largest, largest), True

    def move_free(self, slots: Int, free: Int) -> None:
        """Note that slots are about to have other free counts."""
        move_view(self.table, self.shown, self.free, self.histogram, self.pool_of, slots, free)


@kernel
def price_pools(
    table: Int, row: Int, rate: Int, running: Int, ask: Int, free: Int, seconds: int, units: int, most: int,
    out_cost: Int, out_histogram: Int, out_from_price: Int,
) -> int:  # fmt: skip
    """Price some pools; `row` (pools,): their markets' rows of the curves. Returns the largest cost.

    Sets BASE and POSTED of `table`, the slots of these pools in `out_cost`, their cells in `out_histogram` (zeros
    on entry) and `out_from_price` (pools,).
    """
    largest = 0
    for pool in range(table.shape[0]):
        own_rate, own_running = rate[row[pool]], running[row[pool]]
        at_curve = cost(own_rate, own_running, 0, seconds, units, most)
        start, end, cell = table[pool, START], table[pool, END], table[pool, HISTOGRAM]
        base, previous, paid = start, -1, 0
        for slot in range(start, end):
            if ask[slot] != previous:
                previous = ask[slot]
                paid = cost(own_rate, own_running, previous, seconds, units, most)
            out_cost[slot] = paid
            if paid == at_curve:
                out_histogram[cell + free[slot]] += 1
                base = slot + 1
        table[pool, BASE], table[pool, POSTED] = base, at_curve
        out_from_price[pool] = out_cost[start]
        largest = max(largest, paid)
    return largest


@kernel
def move_view(
    table: Int, shown: NDArray[np.bool_], free: Int, histogram: Int, pool_of: Int, slots: Int, new_free: Int
) -> None:
    """Move base slots between cells of `histogram` (mutated). MODEL of `table` holds of every pool."""
    for index in range(slots.size):
        slot = slots[index]
        pool = pool_of[slot]
        if shown[table[pool, MODEL]] and slot < table[pool, BASE]:
            cell = table[pool, HISTOGRAM]
            histogram[cell + free[slot]] -= 1
            histogram[cell + new_free[index]] += 1
