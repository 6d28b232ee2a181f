"""Which orders are to be tried next: woken by what changed, in the order of their surplus, in rounds.

An order is asleep until something changes that it was waiting for: a node it can use got free GPUs, a market it
may use became cheaper, a load made another fleet, or its tenant, who could not pay, has more money. Woken orders
are taken by rank: surplus (price limit minus the least price of now, per GPU-hour, plus the weight of its
priority), then age, then id. A round is what was awake when it began, and it ends before the next one begins: so
whatever comes in between, each woken order is tried in its round. Every step is bounded by the constants below.

Nothing here is a fact of the market: a restart wakes all open orders once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import WalrasError
from engine.market.inventory import Inventory
from engine.market.ledger.purse import spendable
from engine.market.order_index import OrderIndex
from engine.market.orders import Order
from engine.market.state import MarketState
from engine.market.terms import NO_CAPACITY
from solvers.wake import MAYBE, NO_ROOM

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
PRIORITY_WEIGHT_MICRO_USD = 10_000
"""A point of priority counts as so much surplus per GPU-hour: a cent."""
FREED_MAX, ADDED_MAX, PRICED_MAX, TRIED_MAX = 256, 32, 512, 32
"""In one step: freed nodes looked up, orders made known, orders priced anew, orders handed out."""


class OrderQueue:
    """The open orders of one state, asleep or awake. Call `step` after changes until it returns None.

    `tried`, `woken`: how often orders were handed out, and woken.
    """

    def __init__(self) -> None:
        self._inventory: Inventory | None = None
        self._unknown: dict[str, None] = {}
        self._round: list[str] = []
        self._next: dict[str, None] = {}
        self._to_price: Int = np.empty(0, dtype=np.int64)
        self._fell: Flags = np.empty(0, dtype=bool)
        self._no_capacity: set[str] = set()
        self._unfunded: dict[str, tuple[int, dict[str, None]]] = {}
        """Tenant → what it could spend when it could not pay for some orders, and those."""
        self._seen = ""
        self.tried = self.woken = 0

    def step(self, state: MarketState) -> list[str] | None:
        """Orders to try now, best first, often none; None if there is nothing to do until something changes."""
        if not state.inventory.node_ids.size:
            return None
        self._look(state)
        if not self._work(state):
            return None
        return self._due(state)

    def asleep(self, order_id: str, reason: str) -> None:
        """A try was refused for a reason: the order waits for a change."""
        if reason == NO_CAPACITY:
            self._no_capacity.add(order_id)

    def unfunded(self, state: MarketState, order_id: str) -> None:
        """A try failed for want of money: the order waits until its tenant has more."""
        tenant_id = state.orders[order_id].tenant_id
        orders = self._unfunded.pop(tenant_id, (0, {}))[1]
        self._unfunded[tenant_id] = spendable(state, tenant_id), orders | {order_id: None}

    def put_back(self, order_ids: list[str]) -> None:
        """Orders that were handed out and not tried yet come first in the next step."""
        self._round += reversed(order_ids)
        self.tried -= len(order_ids)

    def _look(self, state: MarketState) -> None:
        """Take in a new fleet, and orders that were placed since."""
        if self._inventory is not state.inventory:
            self._inventory, self._index = state.inventory, OrderIndex(state.inventory)
            self._unknown, self._round, self._next = dict(state.open_orders), [], {}
            self._seen = ""
            self._to_price, self._no_capacity = np.empty(0, dtype=np.int64), set()
        else:
            for order_id in reversed(state.open_orders):
                if order_id <= self._seen:
                    break
                self._unknown[order_id] = None
        for tenant_id, (had, order_ids) in list(self._unfunded.items()):
            if spendable(state, tenant_id) > had:
                self._next.update(order_ids)
                self.woken += len(order_ids)
                del self._unfunded[tenant_id]
        if state.open_orders:
            self._seen = max(self._seen, next(reversed(state.open_orders)))

    def _work(self, state: MarketState) -> bool:
        """One bounded piece of waking; whether anything is left to do."""
        index = self._index
        if (fell := index.prices.moved()) is not None:
            self._fell = fell | self._fell if self._to_price.size else fell
            self._to_price = index.rows
            index.prices.of_pools()
        elif self._unknown:
            self._make_known(state)
        elif self._to_price.size:
            rows, self._to_price = self._to_price[:PRICED_MAX], self._to_price[PRICED_MAX:]
            cheaper = index.prices.price(rows, self._fell)
            self._wake(state, rows[cheaper], by_price=True)
            if not self._to_price.size:
                self._tidy(state)
        elif not index.row_of:
            state.inventory.freed.forget()
            return False
        elif state.inventory.freed.any:
            nodes = state.inventory.freed.take(FREED_MAX)
            if nodes.size:
                self._wake(state, index.could_use(index.rows, nodes), by_price=False)
        elif not self._round and not self._next:
            return False
        return True

    def _make_known(self, state: MarketState) -> None:
        for order_id in list(self._unknown)[:ADDED_MAX]:
            del self._unknown[order_id]
            order = state.orders.get(order_id)
            if order is None or order_id not in state.open_orders:
                continue
            try:
                self._index.add(order)
            except WalrasError:  # it names what this fleet does not know; the next load may
                continue
            self._next[order_id] = None
            self.woken += 1

    def _wake(self, state: MarketState, rows: Int, *, by_price: bool) -> None:
        """Let orders be tried that a change may serve. A lower price gives no GPUs to who found none at any."""
        index = self._index
        for row in rows.tolist():
            order_id = index.order_ids[row]
            order = state.orders.get(order_id)
            if order is None or order_id not in state.open_orders:
                index.remove(order_id)
                continue
            if not by_price:
                self._no_capacity.discard(order_id)
            elif order_id in self._no_capacity:
                continue
            if index.prices.least_micro_usd[row] <= order.limit_micro_usd:
                self._next[order_id] = None
                self.woken += 1

    def _tidy(self, state: MarketState) -> None:
        """Let go of orders that are over and that nothing woke since."""
        for order_id in self._index.row_of.keys() - state.open_orders.keys():
            self._index.remove(order_id)
        self._no_capacity &= state.open_orders.keys()

    def _due(self, state: MarketState) -> list[str]:
        """The best orders of the round that have room, once all waking is done."""
        if self._unknown or self._to_price.size or state.inventory.freed.any:
            return []
        if not self._round:
            known = [order_id for order_id in self._next if order_id in state.open_orders]
            self._round = sorted(known, key=lambda order_id: self._rank(state.orders[order_id]), reverse=True)
            self._next = {}
        taken = [self._round.pop() for _ in range(min(TRIED_MAX, len(self._round)))]
        return self._with_room(state, [each for each in taken if each in state.open_orders])

    def _with_room(self, state: MarketState, order_ids: list[str]) -> list[str]:
        index = self._index
        order_ids = [each for each in order_ids if each in index.row_of]
        if not order_ids:
            return []
        rows = np.array([index.row_of[each] for each in order_ids], dtype=np.int64)
        found = []
        for each, verdict in zip(order_ids, index.could_hold(rows).tolist(), strict=True):
            if verdict == NO_ROOM:
                self._no_capacity.add(each)
            if verdict == MAYBE or state.orders[each].once:
                self._no_capacity.discard(each)
                found.append(each)
        self.tried += len(found)
        return found

    def _rank(self, order: Order) -> tuple[int, int, str]:
        """Sorts ascending: best first."""
        least = int(self._index.prices.least_micro_usd[self._index.row_of[order.order_id]])
        surplus = order.limit_micro_usd - least + PRIORITY_WEIGHT_MICRO_USD * order.priority
        return -surplus, order.placed_at_us, order.order_id
