"""Which markets a request may use. It depends on the request and the fleet alone, so each is asked about once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.market.demand import demand_of
from engine.market.inventory import Inventory
from engine.oracle.markets import MarketSets
from solvers.placement import Demand as PlacementDemand
from solvers.pools import CERTIFICATIONS, CONNECTIVITY, FABRIC, INTERCONNECT, MARKET, MIXED, SITE, SUPPLIER, TIER

Int = NDArray[np.int64]
NONE: Int = np.empty(0, dtype=np.int64)
NOWHERE = 0
"""Number of the empty set."""


class Usable(NamedTuple):
    """Number of the set of markets that a request may use; whether all its pools together hold its gang."""

    number: int
    holds: bool


class UsableMarkets:
    """Of one fleet. Requests that may use the same markets share a set, which has a number."""

    def __init__(self, inventory: Inventory, sellable: Int) -> None:
        """`sellable` (nodes,): GPUs that can be sold at most."""
        self.inventory = inventory
        self._of: dict[ClusterRequest, Usable] = {}
        self._numbers: dict[bytes, int] = {b"": NOWHERE}
        self._sets: list[Int] = [NONE]
        pools = inventory.pools
        self._columns = np.ascontiguousarray(pools.table.T)
        pool_of_node = pools.pool_of[pools.slot_of] if inventory.node_ids.size else NONE
        self._room = np.bincount(pool_of_node, weights=sellable, minlength=pools.table.shape[0])

    def __len__(self) -> int:
        """Distinct requests that were asked about."""
        return len(self._of)

    def of(self, request: ClusterRequest) -> Usable:
        """Markets that can hold the whole gang; if none can, those with a part of it."""
        usable = self._of.get(request)
        if usable is None:
            usable = self._of[request] = self._usable(request)
        return usable

    def sets(self, numbers: Int) -> tuple[MarketSets, Int]:
        """(the sets with these numbers, each once, as places among the inventory's markets; which one each is)."""
        used, place = np.unique(numbers, return_inverse=True)
        listed = [self._sets[number] for number in used.tolist()]
        first = np.cumsum([0, *(markets.size for markets in listed)], dtype=np.int64)
        return MarketSets(first, np.concatenate([NONE, *listed])), place

    def _usable(self, request: ClusterRequest) -> Usable:
        try:
            demand = demand_of(self.inventory, request, request.gpu_models)
        except WalrasError:
            return Usable(NOWHERE, False)
        pools = np.concatenate([NONE, *(self._eligible(demand, model) for model in demand.models.tolist())])
        room = np.bincount(self._columns[MARKET][pools], weights=self._room[pools])
        whole = np.flatnonzero(room >= request.gpu_count)
        number = self._number(whole if whole.size else np.flatnonzero(room))
        return Usable(number, bool(room.sum() >= request.gpu_count))

    def _number(self, markets: Int) -> int:
        key = markets.tobytes()
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._sets)
            self._sets.append(markets)
        return number

    def _eligible(self, demand: PlacementDemand, model: int) -> Int:
        """Pools of a model some of whose nodes keep the constraints on single nodes."""
        pools = self.inventory.pools
        first, last = int(pools.model_start[model]), int(pools.model_start[model + 1])
        columns = self._columns[:, first:last]
        kept = demand.site_ok[columns[SITE]]
        for column, least in (
            (TIER, demand.tier),
            (CONNECTIVITY, demand.connectivity),
            (INTERCONNECT, demand.interconnect),
            (FABRIC, 0 if demand.one_fabric else -1),
        ):
            kept &= columns[column] >= least
        kept &= (columns[CERTIFICATIONS] & demand.certifications) == demand.certifications
        kept &= pools.reliability_high[first:last] >= demand.reliability
        if demand.supplier_ok.size:
            supplier = columns[SUPPLIER]
            kept &= (supplier == MIXED) | demand.supplier_ok[supplier]
        return first + np.flatnonzero(kept)
