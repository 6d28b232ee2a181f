"""From the market's state to what the oracle prices: supply by (market, ask, owner), demand as bids.

Taken on the event loop as copies, which is cheap; put together in a thread, which is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest, with_request_id
from engine.domain.limits import MILLI_OF_GPU
from engine.domain.tiers import NodeState
from engine.market.demand_window import Wanted
from engine.market.inventory import Inventory
from engine.market.orders import Order
from engine.market.state import MarketState
from engine.oracle.epoch import MarketView
from engine.oracle.markets import Bids, Market, MarketSets
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import PriceSnapshot
from engine.service.fleet_supply import FleetSupply
from engine.service.replica_shapes import Left, ShapeMarket, left_of
from engine.service.thread_rest import no_rest, rested
from engine.service.usable_markets import NONE, NOWHERE, UsableMarkets
from solvers.sharing.worth import Worth

Int = NDArray[np.int64]
UNLIMITED = NO_LIMIT = -1


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
    left: Left | None = None
    """Of nodes, if somebody wants to know."""


def glimpse(state: MarketState, now_us: int, window_s: int, *, left: bool = False) -> Glimpse:
    """Copy what can change."""
    inventory = state.inventory
    ready = inventory.state == int(NodeState.READY)
    sellable = np.where(ready, inventory.nodes.gpu_count - inventory.outside, 0)
    wanted = tuple(state.demand.since(now_us - window_s * 1_000_000))
    orders = tuple(map(state.orders.__getitem__, state.open_orders))
    return Glimpse(now_us, inventory, sellable, wanted, orders, left_of(inventory) if left else None)


class Demand(NamedTuple):
    """Orders that wait, and the arrivals of the window: no request is in both."""

    orders: Bids
    arrivals: Bids


class Bid(NamedTuple):
    """What of a request does not change from epoch to epoch. `limit` NO_LIMIT: it has none."""

    limit: int
    gpu_seconds: int
    market_set: int
    shape: int
    is_leased: bool


class _Codes(NamedTuple):
    """Numbers of one view: sets of markets, shapes, the oracle's place of each own market, names; and the highest
    price that each market can have.
    """

    usable: UsableMarkets
    shapes: ShapeMarket
    of_own: Int
    name: dict[str, int]
    ceiling: Int


class ViewMaker:
    """Puts glimpses together. Whatever it found out about an order, or about something wanted, it keeps as long as
    that is there and the fleet is the same: an epoch looks only at what is new.
    """

    def __init__(self, parameters: OracleParameters, rest: Callable[[], None] = no_rest) -> None:
        """`rest`: called after each small piece of work."""
        self._parameters, self._rest = parameters, rest
        self._usable: UsableMarkets | None = None
        self._shapes: ShapeMarket | None = None
        self._shaped = np.zeros((3, 0), dtype=np.int64)
        """Shape, value and GPU-seconds of the last view's bids."""
        self.wants_left = False
        """Whether `worth` would like to know what is left of nodes: somebody wanted more than whole GPUs."""
        self._supply: FleetSupply | None = None
        self._markets: tuple[tuple[Market, ...], Int] = (), NONE
        self._orders: dict[str, Bid] = {}
        self._wanted: dict[int, tuple[Wanted, Bid]] = {}
        """By identity, which lasts as long as the object is kept beside it: comparing requests takes longer."""

    def view(self, seen: Glimpse, previous: PriceSnapshot | None) -> tuple[MarketView, Demand]:
        """Supply and demand. Markets of `previous` that the fleet has left keep their place."""
        inventory, supply = seen.inventory, self._supply_of(seen.inventory)
        markets, of_own = self._listed_with(supply.markets, previous)
        names = set(inventory.suppliers.names)
        names.update([wanted.tenant_id for wanted in seen.wanted], [order.tenant_id for order in seen.orders])
        code = {name: index for index, name in enumerate(sorted(names))}
        opening = _opening(inventory, of_own, len(markets))
        owners = np.array([code[name] for name in inventory.suppliers.names], dtype=np.int64)
        view = MarketView(markets, supply.rows(seen.sellable, of_own, owners), opening, seen.taken_at_us)
        self._rest()
        ceiling = np.maximum(_caps(markets, previous), opening)
        self._rest()
        codes = _Codes(*self._known_on(seen), of_own, code, ceiling)
        orders, order_shapes = self._order_bids(seen, codes)
        arrivals, arrival_shapes = self._arrivals(seen, codes)
        values = [bids.value_micro_usd_per_gpu_hour for bids in (orders, arrivals)]
        self._shaped = np.stack(
            (
                np.concatenate((order_shapes, arrival_shapes)),
                np.minimum(np.concatenate(values), ceiling.max(initial=0)),
                np.concatenate((orders.gpu_seconds, arrivals.gpu_seconds)),
            )
        )
        return view, Demand(orders, arrivals)

    def worth(self, seen: Glimpse) -> Worth | None:
        """What the bids of the last view pay for what is left of nodes.

        None if all are for whole GPUs, or were until now.
        """
        assert self._shapes is not None
        wants = self._shapes.wants(*self._shaped)
        self.wants_left = wants is not None
        return None if wants is None or seen.left is None else self._shapes.clear(wants, seen.left)

    def _supply_of(self, inventory: Inventory) -> FleetSupply:
        if self._supply is None or self._supply.inventory is not inventory:
            self._supply, self._markets = FleetSupply(inventory), ((), NONE)
        return self._supply

    def _listed_with(self, own: list[Market], previous: PriceSnapshot | None) -> tuple[tuple[Market, ...], Int]:
        """(own markets and those of `previous`, sorted; the place of each own one among them)."""
        known = [price.market for price in previous.markets] if previous is not None else []
        if not known or known != list(self._markets[0]):
            markets = tuple(sorted({*own, *known}))
            place = {market: index for index, market in enumerate(markets)}
            self._markets = markets, np.array([place[market] for market in own], dtype=np.int64)
        return self._markets

    def _order_bids(self, seen: Glimpse, codes: _Codes) -> tuple[Bids, Int]:
        """Orders as bids at their limits. One that the fleet could never hold is no demand: it would be free."""
        known, self._orders = self._orders, {}
        for order in rested(seen.orders, self._rest):
            self._orders[order.order_id] = known.get(order.order_id) or _order_bid(codes, order)
        tenant = [codes.name[order.tenant_id] for order in seen.orders]
        bids, _, shape = _listed(codes, list(self._orders.values()), tenant, self._rest)
        return bids, shape

    def _arrivals(self, seen: Glimpse, codes: _Codes) -> tuple[Bids, Int]:
        """Wishes as bids; one without a price limit bids the highest cap of the markets that it may use."""
        known, self._wanted = self._wanted, {}
        rows = []
        for wanted in rested(seen.wanted, self._rest):
            kept = known.get(id(wanted)) or (wanted, _wanted_bid(codes, wanted))
            self._wanted[id(wanted)] = kept
            rows.append(kept[1])
        tenant = [codes.name[wanted.tenant_id] for wanted in seen.wanted]
        bids, used, shape = _listed(codes, rows, tenant, self._rest)
        most = self._most(seen, codes.of_own, bids.sets, codes.ceiling.size)[bids.market_set]
        is_leased = np.array([row.is_leased for row in rows], dtype=bool)[used]
        amounts = bounded_wishes(bids.gpu_seconds, bids.tenant, np.where(is_leased, UNLIMITED, most))
        return replace(bids, gpu_seconds=amounts), shape

    def _most(self, seen: Glimpse, of_own: Int, sets: MarketSets, market_count: int) -> Int:
        """GPU-seconds in the markets of each set, (sets,), that one tenant's wishes may count for; at least 1."""
        parameters, inventory = self._parameters, seen.inventory
        gpus = np.bincount(of_own[inventory.market], weights=seen.sellable, minlength=market_count)
        share_s = parameters.window_s * parameters.availability * parameters.wish_share
        wishable = _over_sets(np.add, gpus * share_s, sets)
        return np.maximum(wishable.astype(np.int64), 1)

    def _known_on(self, seen: Glimpse) -> tuple[UsableMarkets, ShapeMarket]:
        """What was found out about this fleet and not about too many requests that nobody makes any more."""
        requests = len(seen.wanted) + len(seen.orders)
        known = self._usable
        if known is None or known.inventory is not seen.inventory or len(known) > 4 * requests + 1_000:
            self._usable, self._shapes = UsableMarkets(seen.inventory, seen.sellable), ShapeMarket(seen.inventory)
            self._orders, self._wanted = {}, {}
        assert self._usable is not None
        assert self._shapes is not None
        return self._usable, self._shapes


def _gpu_seconds(request: ClusterRequest, duration_s: int) -> int:
    """What a request asks for; a part of a GPU counts as its share, rounded up."""
    return -(-request.gpu_share * duration_s // MILLI_OF_GPU)


def _order_bid(codes: _Codes, order: Order) -> Bid:
    request = with_request_id(order.request, "")
    found = codes.usable.of(request)
    gpu_seconds = _gpu_seconds(request, request.priced_duration_s)
    market_set = found.number if found.holds else NOWHERE
    return Bid(order.limit_micro_usd, gpu_seconds, market_set, codes.shapes.number(request), False)


def _wanted_bid(codes: _Codes, wanted: Wanted) -> Bid:
    request, limit = wanted.request, wanted.request.max_price_micro_usd_per_gpu_hour
    gpu_seconds = _gpu_seconds(request, wanted.duration_s)
    numbers = codes.usable.of(request).number, codes.shapes.number(request)
    return Bid(NO_LIMIT if limit is None else limit, gpu_seconds, *numbers, wanted.is_leased)


def _listed(codes: _Codes, rows: list[Bid], tenant: list[int], rest: Callable[[], None]) -> tuple[Bids, Int, Int]:
    """(bids of the rows that may use any market, one without a limit at its highest ceiling; their places; their
    shapes)."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    limit, amount, number, shape = (np.array(column, dtype=np.int64) for column in columns[:4])
    rest()
    used = np.flatnonzero(number != NOWHERE)
    own_sets, place = codes.usable.sets(number[used])
    rest()
    sets = MarketSets(own_sets.first, codes.of_own[own_sets.markets])
    highest = _over_sets(np.maximum, codes.ceiling, sets)[place]
    value = np.where(limit[used] == NO_LIMIT, highest, limit[used])
    return Bids(value, amount[used], np.array(tenant, dtype=np.int64)[used], place, sets), used, shape[used]


def _over_sets(combine: np.ufunc, of_market: NDArray[Any], sets: MarketSets) -> NDArray[Any]:
    """(sets,): a column of the markets put together over each set; none of them is empty."""
    combined: NDArray[Any] = of_market[:0]
    if sets.sizes.size:
        combined = combine.reduceat(of_market[sets.markets], sets.first[:-1])
    return combined


def bounded_wishes(gpu_seconds: Int, tenant: Int, most: Int) -> Int:
    """(bids,) GPU-seconds of which no tenant's wishes, each as a share of its own `most`, add up to more than 1.

    Where they would, all of its wishes shrink alike; what is UNLIMITED stays as it is.
    """
    wish = most != UNLIMITED
    share = np.where(wish, gpu_seconds / most, 0.0)
    total = np.bincount(tenant, weights=share)[tenant]
    shrunk = np.floor(gpu_seconds / np.maximum(total, 1.0)).astype(np.int64)
    return np.where(wish & (total > 1), shrunk, gpu_seconds)


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
