"""The prices of a fleet: posted prices, forward curves, and the pools that placement reads at either."""

from __future__ import annotations

from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from solvers.distances import Distances
from solvers.forward import HOUR_S, LARGEST, Curves, cost, groups_of, units_per_hour
from solvers.placement import Placer
from solvers.pools import NodeColumns, Pools
from solvers.priced_pools import PricedPools
from solvers.spare import Spare

Int = NDArray[np.int64]
PRICED_MAX = 8
"""Durations whose priced pools are kept."""
CHEAPEST_MAX = 64
"""Durations whose cheapest markets are kept."""
CURVE_CELLS_MAX = 1 << 19
"""Hourly prices of all markets that are kept: 4 MB, and as much for their sums."""


class PricedFleet:
    """What `Inventory` adds prices to; its attributes are described there."""

    nodes: NodeColumns
    distances: Distances
    market: Int
    kind: Int
    model_count: int
    posted_of_market: Int
    long_run: Int
    half_life_h: float
    price_snapshot_id: str
    spare: Spare
    pools: Pools
    placer: Placer
    cheapest: Int
    """For each market the one of its model and tier with the least posted price, (markets,)."""
    _interruptible_prices: Int | None = None
    _interruptible: Self | None = None
    _curves: Curves | None = None
    """Of all markets, for the first `_curves_s` seconds."""
    _own_pools: PricedPools | None = None
    """Pools at the prices of interruptible work, of the fleet as such work sees it."""

    @property
    def posted(self) -> Int:
        """The posted price of each node's market, (nodes,)."""
        posted: Int = self.posted_of_market[self.market]
        return posted

    @property
    def free(self) -> Int:
        """GPUs of each node that can be placed on now."""
        raise NotImplementedError

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Which nodes take new work, (nodes,)."""
        raise NotImplementedError

    def post(self, posted_of_market: Int, price_snapshot_id: str) -> None:
        """Take over posted prices, one per market in the order of `markets`, with flat forward curves."""
        self.publish(posted_of_market, posted_of_market, 1.0, price_snapshot_id)

    def publish(self, posted_of_market: Int, long_run: Int, half_life_h: float, price_snapshot_id: str) -> None:
        """Take over forward curves, (markets,); pools are folded once and then priced anew in place."""
        self.posted_of_market, self.long_run, self.half_life_h = posted_of_market, long_run, half_life_h
        self.price_snapshot_id = price_snapshot_id
        self.__dict__.pop("by_price", None)
        self.cheapest = self._cheapest()
        if hasattr(self, "placer"):
            self.pools.reprice(posted_of_market)
            self.placer.reprice()
        else:
            self.spare.is_open[:] = self.is_open
            self.pools = Pools(self.nodes, self.free, self.market, posted_of_market, self.model_count)
            self.placer = Placer(self.pools, self.distances, self.spare)
        self._priced: dict[int, Placer] = {}
        self._at_asks: list[PricedPools] = []
        self._interruptible = self._interruptible_prices = None
        self._watch()
        self._cheapest_known: dict[int, Int] = {}
        self._curves, self._curves_s = None, 0

    def is_flat(self, duration_s: int) -> bool:
        """Whether prices are the posted ones for the whole of a duration."""
        return duration_s <= HOUR_S or self.long_run is self.posted_of_market

    def curves_of(self, markets: Int, duration_s: int) -> Curves:
        """The forward curves of some markets, by their places among `markets`."""
        return Curves.of(self.posted_of_market[markets], self.long_run[markets], self.half_life_h, duration_s)

    def rows_of(self, markets: Int, duration_s: int) -> tuple[Curves, Int]:
        """(forward curves for at least a duration, the row in them of each of some markets)."""
        if self._curves is None or self._curves_s < duration_s:
            everywhere = self.posted_of_market.size
            if everywhere * (duration_s // HOUR_S + 2) > CURVE_CELLS_MAX:
                named, row = numbered(markets, everywhere)
                return self.curves_of(named, duration_s), row
            self._curves, self._curves_s = self.curves_of(np.arange(everywhere), duration_s), duration_s
        return self._curves, markets

    def placer_for(self, duration_s: int, models: Int, gpus: int) -> Placer:
        """Who places at the forward prices of a duration; prices are then costs of a GPU in its `units`."""
        if self.is_flat(duration_s):
            if self._own_pools is not None:
                self._own_pools.show(models)
            return self.placer
        placer = self._priced.pop(duration_s, None)
        if placer is None:
            placer = self.placer.at(PricedPools(self.pools, self.curves_of, duration_s))
            self._priced[duration_s] = placer
            while len(self._priced) > PRICED_MAX:
                del self._priced[next(iter(self._priced))]
            self._watch()
        else:
            self._priced[duration_s] = placer  # the last one used is the last to go
        priced = placer.pools
        assert isinstance(priced, PricedPools)
        priced.show(models)
        if priced.largest > LARGEST // gpus:
            priced = PricedPools(self.pools, self.curves_of, duration_s, LARGEST // gpus)
            priced.show(models)
            return self.placer.at(priced)
        return placer

    def placer_at_asks(self, models: Int) -> Placer:
        """Who places at the least sum of asks, whatever prices are posted: for what is paid for already."""
        if not self._at_asks:
            self._at_asks = [PricedPools(self.pools, _no_curves, HOUR_S)]
            self._watch()
        self._at_asks[0].show(models)
        return self.placer.at(self._at_asks[0])

    def offer_interruptible(self, prices: Int) -> None:
        """Take over the prices of interruptible work, (markets,), until prices change again."""
        self._interruptible_prices = prices

    def sold_as(self, *, interruptible: bool) -> Self:
        """The fleet at the prices of interruptible work, sharing all that leases change; or as it is."""
        if not interruptible or self._interruptible_prices is None:
            return self
        if self._interruptible is None:
            self._interruptible = self._at(self._interruptible_prices)
            self._watch()
        return self._interruptible

    def _at(self, prices: Int) -> Self:
        other = copy(self)
        other.__dict__.pop("by_price", None)
        other.posted_of_market = other.long_run = prices
        other.cheapest, other._cheapest_known, other._priced = other._cheapest(), {}, {}
        other._curves, other._curves_s = None, 0
        other._own_pools = PricedPools(self.pools, other.curves_of, HOUR_S)
        other.placer = self.placer.at(other._own_pools)
        return other

    def _watch(self) -> None:
        """Let the pools that are kept follow every lease."""
        own = None if self._interruptible is None else self._interruptible._own_pools
        priced = [placer.pools for placer in self._priced.values() if isinstance(placer.pools, PricedPools)]
        self.pools.views = [*priced, *([] if own is None else [own]), *self._at_asks]

    def cheapest_for(self, markets: Int, duration_s: int) -> Int:
        """For each of some markets the cheapest one of its model and tier, for a duration."""
        if self.is_flat(duration_s):
            return self.cheapest[markets]
        known = self._cheapest_known.pop(duration_s, None)
        if known is None:
            known = np.full(self.kind.size, -1, dtype=np.int64)
        chosen = known[markets]
        if chosen.min(initial=0) < 0:
            for kind in set(self.kind[markets[chosen < 0]].tolist()):
                own = np.flatnonzero(self.kind == kind)
                known[own] = own[self._costs_of(own, duration_s).argmin()]
            chosen = known[markets]
        self._cheapest_known[duration_s] = known
        if len(self._cheapest_known) > CHEAPEST_MAX:
            del self._cheapest_known[next(iter(self._cheapest_known))]
        return chosen

    def _costs_of(self, markets: Int, duration_s: int) -> Int:
        """What a GPU without an ask costs in each of some markets over a duration."""
        curves, row = self.rows_of(markets, duration_s)
        units = units_per_hour(duration_s)
        costs = [
            cost(curves.rate[own], curves.running[own], 0, duration_s, units, LARGEST) for own in row.tolist()
        ]
        return np.array(costs, dtype=np.int64)

    def _cheapest(self) -> Int:
        """For each market the one of its model and tier with the least posted price, (markets,)."""
        order = np.lexsort((self.posted_of_market, self.kind))
        first = np.append(True, np.diff(self.kind[order]) != 0)[: order.size]
        cheapest = np.empty_like(order)
        cheapest[order] = order[np.maximum.accumulate(np.where(first, np.arange(order.size), 0))]
        return cheapest


def _no_curves(markets: Int, duration_s: int) -> Curves:
    nothing = np.zeros(markets.size, dtype=np.int64)
    return Curves.of(nothing, nothing, 1.0, duration_s)


def numbered(values: Int, below: int) -> tuple[Int, Int]:
    """(the distinct values in ascending order, the place of each value among them); all are in [0, below)."""
    if values.size == 1:
        return values, np.zeros(1, dtype=np.int64)
    place, distinct, _ = groups_of(values, below, np.array([values.size]))
    return distinct, place
