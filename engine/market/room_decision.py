"""Who makes room: on-demand work that waits gets the GPUs of interruptible leases that bid less, after notice.

A request that fits once leases under notice have gone needs nothing more. Otherwise the leases that bid less are
thought away, the lowest bids first, until it fits; of those only the ones whose GPUs its placement takes get
notice. Requests come by falling limit, each placed once; it finds the GPUs of those before it taken. Prices alone
would not do this: at the margin the price is the bid of the very lease that should go.

Calls come between two requests. So each looks at the state of its own turn, and finds taken what those before it
found as far as that is still free and they still wait. Who was served meanwhile needs no room.

The inventory is changed while thinking and is as before afterwards; whatever was thought away is put back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import InvalidInput, Refused
from engine.market.commands import MakeRoom
from engine.market.end_reasons import EndReason
from engine.market.events import AnyEvent, LeaseReclaiming
from engine.market.inventory import Inventory
from engine.market.lease_terms import Terms
from engine.market.prices import PriceBook
from engine.market.state import ACTIVE, RECLAIMING, Lease, MarketState
from engine.market.terms import terms_of
from engine.market.use import Use, use_of

Int = NDArray[np.int64]
LEASES_MAX = 1_000
"""Leases thought away for one request, the lowest bids: it holds up all calls."""


def in_turn(requests: Iterable[ClusterRequest], most: int) -> list[ClusterRequest]:
    """So many of those that room is made for, the highest limits first."""
    return heapq.nlargest(most, (each for each in requests if not each.interruptible), key=_limit)


def make_room(state: MarketState, command: MakeRoom, now_us: int) -> list[AnyEvent]:
    """Notice to those of the leases that still bid less and run for longer."""
    ends_at_us = now_us + command.notice_us
    leases = [lease for each in command.lease_ids if (lease := state.leases.get(each)) is not None]
    return [
        LeaseReclaiming(at_us=now_us, lease_id=lease.lease_id, reason=EndReason.OUTBID, reclaim_at_us=ends_at_us)
        for lease in leases
        if _yields(lease, command.request) and ends_at_us < lease.ends_at_us
    ]


class Rooms:
    """Room for some requests in turn, of one state. `candidates`: whether any lease could have to go."""

    def __init__(self, state: MarketState) -> None:
        self._state = state
        self._ranked = _by_bid(state)
        self._found: list[tuple[ClusterRequest, Use]] = []

    @property
    def candidates(self) -> bool:
        """Whether there are leases that could have to go."""
        return bool(self._ranked)

    def leases_for(
        self, request: ClusterRequest, waiting: Iterable[ClusterRequest], book: PriceBook
    ) -> tuple[str, ...]:
        """Ids of the leases that have to go for the next request; none if it fits, if nothing helps, or if it is
        not one of those `waiting` any more: these very objects, as equal requests can wait twice."""
        state = self._state
        lower = list(islice((lease for lease in self._ranked if _yields(lease, request)), LEASES_MAX))
        if not lower:
            return ()
        waits = set(map(id, waiting))
        self._found = [(each, use) for each, use in self._found if id(each) in waits]
        if id(request) not in waits:
            return ()
        leases = map(state.leases.__getitem__, state.interruptible)
        with _thinking(state.inventory) as thought:
            thought.give_back([each for each in leases if each.state == RECLAIMING and not each.must_move])
            for _, use in self._found:
                if state.inventory.has_room(use).all():
                    thought.take(use)
            placed, count = _placed_by_bid(state, request, lower, thought, book)
            if placed is None:
                return ()
            self._found.append((request, use_of(placed)))
            if placed.request.is_plain:
                going = _in_the_way(state.inventory, placed, lower[:count])
            else:
                going = _until_it_fits(state.inventory, placed, lower[:count], thought)
        return tuple(lease.lease_id for lease in going)


def _by_bid(state: MarketState) -> list[Lease]:
    """The leases that may have to go, the lowest bids first."""
    leases = map(state.leases.__getitem__, state.interruptible)
    bidding = [each for each in leases if each.state == ACTIVE and _is_limited(each.standing.request)]
    return sorted(bidding, key=lambda lease: (_limit(lease.standing.request), -lease.starts_at_us, lease.lease_id))


def _placed_by_bid(
    state: MarketState, request: ClusterRequest, lower: list[Lease], thought: _Thought, book: PriceBook
) -> tuple[Terms | None, int]:
    """(the placement without the fewest of the lower bids, how many): a bisection, as less never hurts."""
    fewest, most = 0, len(lower)
    placed = _placed_without(state, request, thought, lower, book)
    while placed is not None and fewest < most:
        middle = (fewest + most) // 2
        fits = _placed_without(state, request, thought, lower[:middle], book)
        fewest, most = (fewest, middle) if fits else (middle + 1, most)
        placed = fits or placed
    return placed, most


def _yields(lease: Lease, request: ClusterRequest) -> bool:
    """Whether a lease has to go for a request."""
    own = lease.standing.request
    return lease.state == ACTIVE and _is_limited(own) and _limit(own) < _limit(request)


def _is_limited(request: ClusterRequest) -> bool:
    """Whether a lease may have to go at all; one without a limit pays any price."""
    return request.interruptible and request.max_price_micro_usd_per_gpu_hour is not None


def _limit(request: ClusterRequest) -> int:
    """Its bid; that of a request without one is above all others."""
    limit = request.max_price_micro_usd_per_gpu_hour
    return 2**63 if limit is None else limit


def _placed_without(
    state: MarketState, request: ClusterRequest, thought: _Thought, leases: list[Lease], book: PriceBook
) -> Terms | None:
    """Where the request would run if these leases were gone; they are not, afterwards."""
    mark = thought.mark()
    thought.give_back(leases)
    try:
        return terms_of(state, request, book)
    except (Refused, InvalidInput):
        return None
    finally:
        thought.back_to(mark)


def _in_the_way(inventory: Inventory, placed: Terms, leases: list[Lease]) -> list[Lease]:
    """Of leases, the lowest bids first, those whose GPUs a placement needs beyond what is unused."""
    short = np.zeros(inventory.unused.size, dtype=np.int64)
    nodes = placed.node_numbers
    short[nodes] = np.maximum(0, placed.gpus_per_node - inventory.unused[nodes])
    going = []
    for lease in leases:
        own = lease.standing.node_numbers
        if (short[own] > 0).any():
            short[own] -= lease.standing.gpus_per_node
            going.append(lease)
    return going


def _until_it_fits(inventory: Inventory, placed: Terms, leases: list[Lease], thought: _Thought) -> list[Lease]:
    """The same for a placement with CPU, memory or a part of a card: whoever comes when there is room stays."""
    use, going = use_of(placed), list[Lease]()
    for lease in leases:
        short = use.nodes[~inventory.has_room(use)]
        if np.isin(lease.standing.node_numbers, short).any():
            thought.give_back([lease])
            going.append(lease)
    return going


class _Thought:
    """Changes of what is leased that are taken back."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._undo: list[Callable[[], None]] = []

    def give_back(self, leases: list[Lease]) -> None:
        """Think the leases away, those of whole GPUs alone all at once."""
        uses = [use_of(lease.standing) for lease in leases]
        for use in uses:
            if not use.is_plain:
                self._inventory.give(use)
                self._undo.append(partial(self._inventory.take, use))
        if plain := [use for use in uses if use.is_plain]:
            nodes, row = np.unique(np.concatenate([use.nodes for use in plain]), return_inverse=True)
            gpus = np.bincount(row, weights=np.concatenate([use.gpus for use in plain])).astype(np.int64)
            self._inventory.lease(nodes, -gpus)
            self._undo.append(partial(self._inventory.lease, nodes, gpus))

    def take(self, use: Use) -> None:
        """Think a placement there."""
        self._inventory.take(use)
        self._undo.append(partial(self._inventory.give, use))

    def mark(self) -> int:
        """Where we are."""
        return len(self._undo)

    def back_to(self, mark: int) -> None:
        """Take back what came after a mark."""
        while len(self._undo) > mark:
            self._undo.pop()()


@contextmanager
def _thinking(inventory: Inventory) -> Iterator[_Thought]:
    thought = _Thought(inventory)
    with inventory.freed.unnoted():
        try:
            yield thought
        finally:
            thought.back_to(0)
