"""What standing orders would pay at least, kept up to date as prices move.

The markets that an order may use, and the least ask in each, depend on its request and the fleet alone. They are
listed once, when it is made known; a move of all prices then costs a comparison per order and market (some thirty
of them) and not another look at every pool.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.market.inventory import Inventory
from solvers.pools import MARKET, MODEL, START
from solvers.wake import NO_PRICE

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
KINDS = 3
LONG, SHORT, AT_ASKS = range(KINDS)
"""Kinds of orders by what they pay. AT_ASKS: interruptible, whose price is another's but never below an ask."""
NONE: Int = np.empty(0, dtype=np.int64)
PRICE_BITS = 40
"""More than a price has."""


class OrderPrices:
    """Of the orders on one inventory, by their rows in the index. `least_micro_usd` (rows,): no placement of an
    order costs less per GPU-hour now.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        pools = inventory.pools
        self.first_ask = pools.ask[pools.table[:, START]]
        """Of each pool, (pools,)."""
        self.least_micro_usd = NONE
        self._kind: list[int] = []
        self._markets: list[Int] = []
        self._asks: list[Int] = []
        self._of_pools: tuple[Int, Int] | None = None
        self._see()

    def set(self, row: int, kind: int, markets: Int, asks: Int) -> None:
        """Take in the order in a row, the next new one or one used before."""
        if row == len(self._kind):
            self._kind.append(kind)
            self._markets.append(markets)
            self._asks.append(asks)
            if row >= self.least_micro_usd.size:
                self.least_micro_usd = np.concatenate((self.least_micro_usd, np.zeros(row + 64, dtype=np.int64)))
        self._kind[row], self._markets[row], self._asks[row] = kind, markets, asks
        self.price(np.array([row]), np.zeros(self._by_kind.shape[1], dtype=bool))

    def price(self, rows: Int, fell: Flags) -> Flags:
        """Find the least prices of some rows anew; which of them may use a market that became cheaper, (rows,)."""
        places = rows.tolist()
        markets = np.concatenate([NONE, *(self._markets[row] for row in places)])
        asks = np.concatenate([NONE, *(self._asks[row] for row in places)])
        sizes = np.array([self._markets[row].size for row in places], dtype=np.int64)
        kind = np.array([self._kind[row] for row in places], dtype=np.int64)
        prices = np.maximum(self._by_kind[np.repeat(kind, sizes), markets], asks)
        some, first = sizes > 0, np.cumsum(sizes) - sizes
        least, cheaper = np.full(rows.size, NO_PRICE), kind == AT_ASKS
        if markets.size:
            least[some] = np.minimum.reduceat(prices, first[some])
            cheaper[some] |= np.logical_or.reduceat(fell[markets], first[some])
        self.least_micro_usd[rows] = least
        return np.asarray(cheaper, dtype=bool)

    def moved(self) -> Flags | None:
        """Markets that became cheaper since the last call, at any hour; None if no price moved."""
        inventory, posted, long_run = self._inventory, self._posted, self._long_run
        if inventory.price_snapshot_id == self._snapshot_id:
            return None
        self._see()
        return (inventory.posted_of_market < posted) | (inventory.long_run < long_run)

    def of_pools(self) -> tuple[Int, Int]:
        """(no node of a pool is cheaper, each model's pools from the cheapest on), (KINDS, pools) each."""
        if self._of_pools is None:
            table = self._inventory.pools.table
            prices = np.maximum(np.take(self._by_kind, table[:, MARKET], axis=1), self.first_ask)
            keys = (table[:, MODEL] << PRICE_BITS) + prices
            self._of_pools = prices, np.argsort(keys, axis=1, kind="stable").astype(np.int64)
        return self._of_pools

    def _see(self) -> None:
        inventory = self._inventory
        self._snapshot_id = inventory.price_snapshot_id
        self._posted, self._long_run = inventory.posted_of_market, inventory.long_run
        lowest = np.minimum(self._posted, self._long_run)
        self._by_kind = np.stack((lowest, self._posted, np.zeros_like(lowest)))
        self._of_pools = None
