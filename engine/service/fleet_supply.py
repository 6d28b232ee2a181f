"""The supply of one fleet by (market, ask, owner).

A load changes which rows there are, a lease only how much of each can be sold; so nodes are sorted once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.domain.tiers import SecurityTier
from engine.market.inventory import Inventory
from engine.oracle.markets import Market, Supply

Int = NDArray[np.int64]


class FleetSupply:
    """Of the nodes of an inventory. `markets`: its own, in its order, so not sorted."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.markets = [_market(inventory, key) for key in inventory.markets.tolist()]
        nodes = inventory.nodes
        columns = _rank(self.markets)[inventory.market], nodes.ask_micro_usd, _rank(inventory.suppliers.names)
        keys = np.stack((columns[0], columns[1], columns[2][nodes.supplier])) if nodes.supplier.size else _NO_KEYS
        order = np.lexsort(keys[::-1])
        begins = np.append(True, (np.diff(keys[:, order], axis=1) != 0).any(axis=0))[: order.size]
        first = order[begins]
        self._market, self._ask, self._supplier = (
            column[first] for column in (inventory.market, nodes.ask_micro_usd, nodes.supplier)
        )
        self._row_of_node = np.empty(order.size, dtype=np.int64)
        self._row_of_node[order] = np.cumsum(begins) - 1

    def rows(self, sellable: Int, place: Int, code: Int) -> Supply:
        """What can be sold, sorted. `sellable` (nodes,): GPUs; `place` (markets,): where the oracle lists each of
        `markets`, in order; `code` (suppliers,)."""
        gpus = np.bincount(self._row_of_node, weights=sellable, minlength=self._ask.size).astype(np.int64)
        some = np.flatnonzero(gpus)
        return Supply(place[self._market[some]], self._ask[some], gpus[some], code[self._supplier[some]])


_NO_KEYS: Int = np.empty((3, 0), dtype=np.int64)


def _market(inventory: Inventory, key: int) -> Market:
    model, region, tier = inventory.market_names(key)
    return Market(model, region, SecurityTier[tier])


def _rank(values: list[Market] | list[str]) -> Int:
    """The place of each value in sorted order."""
    place = {value: index for index, value in enumerate(sorted(values))}
    return np.array([place[value] for value in values], dtype=np.int64)
