"""From the market's state to what the oracle prices: supply by (market, ask, owner), demand as bids.

Taken on the event loop as copies, which is cheap; put together in a thread, which is not. Which markets a request
may use depends only on the request and the fleet, so it is worked out once per distinct request and fleet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.domain.limits import MILLI_OF_GPU
from engine.domain.tiers import NodeState, SecurityTier
from engine.market.demand import demand_of
from engine.market.demand_window import Wanted
from engine.market.inventory import Inventory
from engine.market.orders import Order
from engine.market.state import MarketState
from engine.oracle.epoch import MarketView
from engine.oracle.markets import Bids, Market, MarketSets, Supply
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import PriceSnapshot
from solvers.placement import Demand as PlacementDemand
from solvers.pools import CERTIFICATIONS, CONNECTIVITY, FABRIC, INTERCONNECT, MARKET, MIXED, SITE, SUPPLIER, TIER

Int = NDArray[np.int64]
UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The market at one moment. `inventory`: its static columns; `sellable` (nodes,): GPUs of READY nodes that are
    not used outside, free, held and leased.
    """

    taken_at_us: int
    inventory: Inventory
    sellable: Int
    wanted: tuple[Wanted, ...]
    orders: tuple[Order, ...]


def glimpse(state: MarketState, now_us: int, window_s: int) -> Glimpse:
    """Copy what can change."""
    inventory = state.inventory
    ready = inventory.state == int(NodeState.READY)
    sellable = np.where(ready, inventory.nodes.gpu_count - inventory.outside, 0)
    wanted = tuple(state.demand.since(now_us - window_s * 1_000_000))
    return Glimpse(now_us, inventory, sellable, wanted, tuple(map(state.orders.__getitem__, state.open_orders)))


class Usable(NamedTuple):
    """Markets that a request may use, (markets,) places in the inventory; whether all its pools hold its gang."""

    markets: Int
    holds: bool


class Demand(NamedTuple):
    """Orders that wait, and the arrivals of the window: no request is in both."""

    orders: Bids
    arrivals: Bids


class ViewMaker:
    """Puts glimpses together; keeps what it found out about requests as long as the fleet is the same."""

    def __init__(self, parameters: OracleParameters) -> None:
        self._parameters = parameters
        self._inventory: Inventory | None = None
        self._sets: dict[ClusterRequest, Usable] = {}

    def view(self, seen: Glimpse, previous: PriceSnapshot | None) -> tuple[MarketView, Demand]:
        """Supply and demand. Markets of `previous` that the fleet has left keep their place."""
        inventory = seen.inventory
        own = [_market(inventory, key) for key in inventory.markets.tolist()]
        known = [price.market for price in previous.markets] if previous is not None else []
        markets = tuple(sorted(set(own) | set(known)))
        place = {market: index for index, market in enumerate(markets)}
        of_own = np.array([place[market] for market in own], dtype=np.int64)
        names = sorted(
            set(inventory.suppliers.names)
            | {wanted.tenant_id for wanted in seen.wanted}
            | {order.tenant_id for order in seen.orders}
        )
        code = {name: index for index, name in enumerate(names)}
        opening = _opening(inventory, of_own, len(markets))
        view = MarketView(markets, _supply(seen, of_own, code), opening, seen.taken_at_us)
        ceiling = np.maximum(_caps(markets, previous), opening)
        self._keep_to(seen)
        return view, Demand(self._orders(seen, of_own, code), self._arrivals(seen, of_own, code, ceiling))

    def _orders(self, seen: Glimpse, of_own: Int, code: dict[str, int]) -> Bids:
        """Orders as bids at their limits. One that the fleet could never hold is no demand: it would be free."""
        rows = []
        for order in seen.orders:
            request = order.request
            usable = self._usable_by(seen, replace(request, request_id=""))
            if usable.holds:
                gpu_seconds = _gpu_seconds(request, request.priced_duration_s)
                rows.append((order.limit_micro_usd, gpu_seconds, code[order.tenant_id], of_own[usable.markets]))
        return _listed(rows)

    def _arrivals(self, seen: Glimpse, of_own: Int, code: dict[str, int], ceiling: Int) -> Bids:
        """Wishes as bids; one without a price limit bids the highest cap of the markets that it may use."""
        wishable = self._wishable(seen)
        rows, most_of = [], []
        for wanted in seen.wanted:
            request = wanted.request
            usable = self._usable_by(seen, request).markets
            if not usable.size:
                continue
            chosen, limit = of_own[usable], request.max_price_micro_usd_per_gpu_hour
            value = int(ceiling[chosen].max()) if limit is None else limit
            most_of.append(UNLIMITED if wanted.is_leased else max(1, int(wishable[usable].sum())))
            rows.append((value, _gpu_seconds(request, wanted.duration_s), code[wanted.tenant_id], chosen))
        bids = _listed(rows)
        amounts = bounded_wishes(bids.gpu_seconds, bids.tenant, np.array(most_of, dtype=np.int64))
        return replace(bids, gpu_seconds=amounts)

    def _wishable(self, seen: Glimpse) -> NDArray[np.float64]:
        """GPU-seconds in each market of the inventory, (markets,), that one tenant's wishes may count for."""
        parameters, inventory = self._parameters, seen.inventory
        gpus = np.bincount(inventory.market, weights=seen.sellable, minlength=inventory.markets.size)
        share_s = parameters.window_s * parameters.availability * parameters.wish_share
        return np.asarray(gpus * share_s, dtype=np.float64)

    def _keep_to(self, seen: Glimpse) -> None:
        """Forget what was found out about another fleet, or about requests that nobody makes any more."""
        requests = len(seen.wanted) + len(seen.orders)
        if self._inventory is not seen.inventory or len(self._sets) > 4 * requests + 1_000:
            self._inventory, self._sets = seen.inventory, {}
            inventory = seen.inventory
            self._room = np.zeros(0, dtype=np.int64)
            if inventory.node_ids.size:
                pool_of_node = inventory.pools.pool_of[inventory.pools.slot_of]
                self._room = np.bincount(
                    pool_of_node, weights=seen.sellable, minlength=inventory.pools.table.shape[0]
                ).astype(np.int64)

    def _usable_by(self, seen: Glimpse, request: ClusterRequest) -> Usable:
        usable = self._sets.get(request)
        if usable is None:
            usable = self._sets[request] = self._usable(seen, request)
        return usable

    def _usable(self, seen: Glimpse, request: ClusterRequest) -> Usable:
        """Markets (places in the inventory) that can hold the whole gang; if none can, those with a part of it."""
        try:
            demand = demand_of(seen.inventory, request, request.gpu_models)
        except WalrasError:
            return Usable(np.empty(0, dtype=np.int64), False)
        pools = np.flatnonzero(_eligible(seen.inventory, demand))
        room = np.bincount(seen.inventory.pools.table[pools, MARKET], weights=self._room[pools])
        whole = np.flatnonzero(room >= request.gpu_count)
        holds = bool(room.sum() >= request.gpu_count)
        return Usable(whole if whole.size else np.flatnonzero(room), holds)


def _gpu_seconds(request: ClusterRequest, duration_s: int) -> int:
    """What a request asks for; a part of a GPU counts as its share, rounded up."""
    return -(-request.gpu_share * duration_s // MILLI_OF_GPU)


def _listed(rows: list[tuple[int, int, int, Int]]) -> Bids:
    """Bids of (value, GPU-seconds, tenant, markets in any order); bids with the same markets share a set."""
    sets: dict[bytes, tuple[int, Int]] = {}
    columns = []
    for *facts, markets in rows:
        chosen = np.sort(markets)
        number, _ = sets.setdefault(chosen.tobytes(), (len(sets), chosen))
        columns.append((*facts, number))
    values, amounts, tenants, numbers = np.array(columns, dtype=np.int64).reshape(-1, 4).T
    listed = [chosen for _, chosen in sets.values()]
    first = np.concatenate(([0], np.cumsum([chosen.size for chosen in listed], dtype=np.int64)))
    markets = np.concatenate([np.empty(0, dtype=np.int64), *listed])
    return Bids(values, amounts, tenants, numbers, MarketSets(first.astype(np.int64), markets))


def bounded_wishes(gpu_seconds: Int, tenant: Int, most: Int) -> Int:
    """(bids,) GPU-seconds of which no tenant's wishes, each as a share of its own `most`, add up to more than 1.

    Where they would, all of its wishes shrink alike; what is UNLIMITED stays as it is.
    """
    wish = most != UNLIMITED
    share = np.where(wish, gpu_seconds / most, 0.0)
    total = np.bincount(tenant, weights=share)[tenant]
    shrunk = np.floor(gpu_seconds / np.maximum(total, 1.0)).astype(np.int64)
    return np.where(wish & (total > 1), shrunk, gpu_seconds)


def _market(inventory: Inventory, key: int) -> Market:
    model, region, tier = inventory.market_names(key)
    return Market(model, region, SecurityTier[tier])


def _supply(seen: Glimpse, of_own: Int, code: dict[str, int]) -> Supply:
    inventory, nodes = seen.inventory, seen.inventory.nodes
    owner = np.array([code[name] for name in inventory.suppliers.names], dtype=np.int64)
    used = np.flatnonzero(seen.sellable)
    market = of_own[inventory.market[used]] if used.size else used
    rows = np.stack((market, nodes.ask_micro_usd[used], owner[nodes.supplier[used]] if used.size else used))
    order = np.lexsort(rows[::-1])
    rows, gpus = rows[:, order], seen.sellable[used][order]
    first = np.flatnonzero(np.append(True, (np.diff(rows, axis=1) != 0).any(axis=0))[: order.size])
    total = np.add.reduceat(gpus, first) if first.size else gpus
    return Supply(rows[0, first], rows[1, first], total, rows[2, first])


def _opening(inventory: Inventory, of_own: Int, count: int) -> Int:
    """What markets without a reference open at: their price of now; 1 where there is no node."""
    opening = np.ones(count, dtype=np.int64)
    opening[of_own] = np.maximum(inventory.posted_of_market, 1)
    return opening


def _caps(markets: tuple[Market, ...], previous: PriceSnapshot | None) -> Int:
    """The most that the oracle could post in each market at the epoch before; 0 where it knew none."""
    known = (
        {} if previous is None else {price.market: price.cap_micro_usd_per_gpu_hour for price in previous.markets}
    )
    return np.array([known.get(market, 0) for market in markets], dtype=np.int64)


def _eligible(inventory: Inventory, demand: PlacementDemand) -> NDArray[np.bool_]:
    """Pools some of whose nodes keep the constraints on single nodes, (pools,)."""
    pools, table = inventory.pools, inventory.pools.table
    wanted = np.zeros(len(inventory.models), dtype=bool)
    wanted[demand.models] = True
    kept = np.zeros(table.shape[0], dtype=bool)
    for model in demand.models.tolist():
        kept[pools.model_start[model] : pools.model_start[model + 1]] = True
    kept &= demand.site_ok[table[:, SITE]] & (table[:, TIER] >= demand.tier)
    kept &= (table[:, CERTIFICATIONS] & demand.certifications) == demand.certifications
    kept &= (table[:, CONNECTIVITY] >= demand.connectivity) & (table[:, INTERCONNECT] >= demand.interconnect)
    kept &= pools.reliability_high >= demand.reliability
    if demand.one_fabric:
        kept &= table[:, FABRIC] >= 0
    if demand.supplier_ok.size:
        supplier = table[:, SUPPLIER]
        kept &= (supplier == MIXED) | demand.supplier_ok[supplier]
    return kept
