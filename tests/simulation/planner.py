"""Plans as a planner makes them on a snapshot: moves and new leases, right then or wrong on purpose."""

from __future__ import annotations

import random

import msgspec
import numpy as np

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.market.commands import PlanChanges, PlannedMove, PlannedStart
from engine.market.failure_placement import new_seats
from engine.market.lease_terms import Terms
from engine.market.state import MarketState
from engine.market.terms import terms_of
from tests.service.loopback import Book

WRONG = ("a GPU short", "given twice", "below the ask", "elsewhere")


def changes(state: MarketState, draw: random.Random, how: str) -> PlanChanges | None:
    """A move of some lease and a new lease; None if there is nothing to plan."""
    moves, starts = _moves(state, draw), _starts(state, draw)
    if how in WRONG:
        moves, starts = _spoiled(moves, starts, how, draw)
    if not moves and not starts:
        return None
    return PlanChanges(state.fleet_version, (), moves, starts)


def _moves(state: MarketState, draw: random.Random) -> tuple[PlannedMove, ...]:
    running = [lease for lease in state.leases.values() if lease.runs]
    if not running:
        return ()
    lease = draw.choice(running)
    standing = lease.standing
    leaving = np.ones(standing.node_numbers.size, dtype=bool)
    try:
        seats = new_seats(state, lease, leaving)
    except WalrasError:
        return ()
    if seats is None:
        return ()
    terms = _placed(standing, seats.nodes, seats.gpus, seats.prices)
    return (PlannedMove(lease.lease_id, standing, terms, _asks(state, terms)),)


def _starts(state: MarketState, draw: random.Random) -> tuple[PlannedStart, ...]:
    request = ClusterRequest(
        gpu_count=draw.choice((2, 4, 8)),
        request_id=f"planned-{state.version}",
        duration_s=draw.choice((2, 20)),
        max_price_micro_usd_per_gpu_hour=9_000_000,
    )
    try:
        terms = terms_of(state, request, Book())
    except WalrasError:
        return ()
    return (PlannedStart(terms, _asks(state, terms)),)


def _spoiled(
    moves: tuple[PlannedMove, ...], starts: tuple[PlannedStart, ...], how: str, draw: random.Random
) -> tuple[tuple[PlannedMove, ...], tuple[PlannedStart, ...]]:
    if how == "given twice":
        return moves * 2, starts * draw.choice((2, 12))
    return (
        tuple(
            PlannedMove(each.lease_id, each.standing, _wrong(each.terms, how, draw), each.asks_micro_usd)
            for each in moves
        ),
        tuple(PlannedStart(_wrong(each.terms, how, draw), each.asks_micro_usd) for each in starts),
    )


def _wrong(terms: Terms, how: str, draw: random.Random) -> Terms:
    nodes, gpus, prices = terms.node_numbers, terms.gpus_per_node.copy(), terms.prices.copy()
    if how == "a GPU short":
        gpus[0] -= 1
    elif how == "below the ask":
        prices[:] = 1
    else:
        nodes = (nodes + draw.randint(1, 11)) % 12
    return _placed(terms, nodes, gpus, prices)


def _placed(terms: Terms, nodes: np.ndarray, gpus: np.ndarray, prices: np.ndarray) -> Terms:
    return msgspec.structs.replace(
        terms,
        nodes=nodes.astype("<i4").tobytes(),
        gpus=gpus.astype("<i4").tobytes(),
        prices_micro_usd_per_gpu_hour=prices.astype("<i8").tobytes(),
    )


def _asks(state: MarketState, terms: Terms) -> np.ndarray:
    return state.inventory.nodes.ask_micro_usd[terms.node_numbers]
