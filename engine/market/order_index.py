"""Standing orders as columns, so that what was freed finds those it can serve without a look at any other.

Derived from the state, no part of it: it is made anew after a load, when codes and pools are others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.market.demand import demand_of
from engine.market.inventory import Inventory
from engine.market.order_prices import AT_ASKS, LONG, SHORT, OrderPrices
from engine.market.orders import Order
from solvers.forward import HOUR_S
from solvers.placement import Demand
from solvers.wake import ANY_SUPPLIER, NO_PRICE, ORDER_COLUMNS, could_hold, could_use, least_asks, room_by_pool

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
FIRST_SIZE = 64
ANY_ROOM = 0
"""Replica of a part of a GPU: a node without a free GPU may have room on a shared card."""


class OrderIndex:
    """Orders that wait on one inventory, each in a row of its own; rows of orders that are gone are used again.

    `row_of`: order → row. `prices`: what each pays at least.
    """

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.row_of: dict[str, int] = {}
        self.order_ids: list[str] = []
        self._spare: list[int] = []
        self._all: Int | None = None
        self._rows = np.zeros((FIRST_SIZE, ORDER_COLUMNS), dtype=np.int64)
        self._reliability = np.zeros(FIRST_SIZE)
        self._models = np.zeros((FIRST_SIZE, max(len(inventory.models), 1)), dtype=bool)
        self.prices = OrderPrices(inventory)
        self._by_market = np.full(inventory.markets.size, NO_PRICE)
        self._sites, self._suppliers = _Sets(len(inventory.sites.names)), _Sets(len(inventory.suppliers))
        self._rooms: dict[int, Int] = {}
        self._rooms_revision = -1

    @property
    def rows(self) -> Int:
        """The rows of all orders."""
        if self._all is None:
            self._all = np.array(list(self.row_of.values()), dtype=np.int64)
        return self._all

    def add(self, order: Order) -> int:
        """The row of an order that was not there; its least price is known afterwards."""
        demand = demand_of(self.inventory, order.request, order.request.gpu_models)
        row = self._row_for(order.order_id)
        kind = SHORT if order.request.priced_duration_s <= HOUR_S else LONG
        kind = AT_ASKS if order.request.interruptible else kind
        self._rows[row] = (
            ANY_ROOM if demand.gpu_milli else demand.gpus_per_replica,
            demand.replicas * demand.gpus_per_replica,
            demand.tier,
            demand.certifications,
            demand.connectivity,
            demand.interconnect,
            demand.one_fabric,
            self._sites.row(demand.site_ok),
            self._suppliers.row(demand.supplier_ok) if demand.supplier_ok.size else ANY_SUPPLIER,
            kind,
            demand.one_model,
            order.limit_micro_usd,
        )
        self._reliability[row] = demand.reliability
        self._take_models(row, demand)
        pools = self.inventory.pools
        fold = pools.table, pools.reliability_high, pools.model_start, self.prices.first_ask
        self.prices.set(row, kind, *least_asks(self._orders(), row, *fold, self._by_market))
        return row

    def remove(self, order_id: str) -> None:
        """Forget an order; one that is not there is none."""
        row = self.row_of.pop(order_id, None)
        if row is not None:
            self._models[row] = False
            self._spare.append(row)
            self._all = None

    def could_use(self, rows: Int, nodes: Int) -> Int:
        """Those of some rows that one of some nodes could serve, at least in part, as it is now."""
        columns, pools = self.inventory.nodes, self.inventory.pools
        offered = (
            columns.model[nodes],
            columns.site[nodes],
            columns.tier[nodes],
            columns.certifications[nodes],
            columns.connectivity[nodes],
            columns.interconnect[nodes],
            columns.fabric[nodes],
            columns.supplier[nodes],
            columns.reliability[nodes],
            pools.free[pools.slot_of[nodes]],
        )
        return rows[could_use(self._orders(), rows, offered)]

    def could_hold(self, rows: Int) -> Int:
        """NO_ROOM, TOO_DEAR or MAYBE for each of some rows as the fleet is now."""
        pools = self.inventory.pools
        if self._rooms_revision != self.inventory.freed.revision:
            self._rooms, self._rooms_revision = {}, self.inventory.freed.revision
        sizes, room_of = np.unique(self._rows[rows, 0], return_inverse=True)
        for size in sizes.tolist():
            if size == ANY_ROOM:
                self._rooms[size] = np.ones(pools.table.shape[0], dtype=np.int64)
            elif size not in self._rooms:
                self._rooms[size] = np.zeros(pools.table.shape[0], dtype=np.int64)
                room_by_pool(pools.pool_of, pools.free, size, self._rooms[size])
        room = np.stack([self._rooms[size] for size in sizes.tolist()])
        supply = *self.prices.of_pools(), room
        return could_hold(
            self._orders(), rows, pools.table, pools.reliability_high, pools.model_start, supply, room_of
        )

    def _orders(self) -> tuple[Int, NDArray[np.float64], Flags, Flags, Flags]:
        return self._rows, self._reliability, self._models, self._sites.flags, self._suppliers.flags

    def _row_for(self, order_id: str) -> int:
        if self._spare:
            row = self._spare.pop()
            self.order_ids[row] = order_id
        else:
            row = len(self.order_ids)
            self.order_ids.append(order_id)
            if row == self._rows.shape[0]:
                self._grow()
        self.row_of[order_id] = row
        self._all = None
        return row

    def _grow(self) -> None:
        self._rows = np.concatenate((self._rows, np.zeros_like(self._rows)))
        self._reliability = np.concatenate((self._reliability, np.zeros_like(self._reliability)))
        self._models = np.concatenate((self._models, np.zeros_like(self._models)))

    def _take_models(self, row: int, demand: Demand) -> None:
        self._models[row] = False
        self._models[row, demand.models] = True


class _Sets:
    """Distinct sets as rows of flags: many orders name the same places."""

    def __init__(self, size: int) -> None:
        self._row: dict[bytes, int] = {}
        self._used = 0
        self.flags = np.zeros((1, max(size, 1)), dtype=bool)

    def row(self, flags: Flags) -> int:
        """The row of a set, made if it is new."""
        key = flags.tobytes()
        row = self._row.get(key)
        if row is None:
            row = self._row[key] = self._used
            self._used += 1
            if row == self.flags.shape[0]:
                self.flags = np.concatenate((self.flags, np.zeros_like(self.flags)))
            self.flags[row] = flags
        return row
