"""The decision alone, in this process: from a checked request to the placement, on a warm state."""

from __future__ import annotations

import time

from engine.datasets.real import World
from engine.domain.cluster_request import ClusterRequest
from engine.market.apply import apply
from engine.market.commands import LoadFleet
from engine.market.decide import decide
from engine.market.demand import demand_of
from engine.market.state import MarketState
from engine.service.price_book import ReferenceBook
from solvers.placement import Placement
from solvers.warmup import warm_up

BOOK = ReferenceBook()
BLOCK_S_MAX = 0.25
"""A block of decisions ends early beyond this: requests for close sites can take a hundred milliseconds each."""


def loaded_state(world: World) -> MarketState:
    """The state of an engine that has loaded the world and leased nothing."""
    warm_up()
    state = MarketState()
    for event in decide(state, LoadFleet(world.fleet, world.rtt), 1, BOOK):
        apply(state, event)
    return state


def fits(state: MarketState, request: ClusterRequest) -> bool:
    """Whether the request can be served now."""
    return isinstance(_place(state, request), Placement)


def decision_block_ns(
    state: MarketState, request: ClusterRequest, repetitions: int, idle_s: float = 0.0
) -> list[int]:
    """Nanoseconds of each decision, after one that is not counted; at least one. Changes nothing.

    `idle_s`: sleep before each, as a server does between calls: the core slows down and its caches are lent out.
    """
    _place(state, request)
    laps: list[int] = []
    ends = time.perf_counter() + BLOCK_S_MAX
    while len(laps) < repetitions and (not laps or time.perf_counter() < ends):
        if idle_s:
            time.sleep(idle_s)
        started = time.perf_counter_ns()
        _place(state, request)
        laps.append(time.perf_counter_ns() - started)
    return laps


def _place(state: MarketState, request: ClusterRequest) -> object:
    """The placing part of `engine.market.decide.terms_of`."""
    return state.inventory.placer.place(demand_of(state.inventory, request, BOOK.models()))
