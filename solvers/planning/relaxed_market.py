"""The relaxed market: its prices, the bound they prove, and what follows from them for gangs and placements."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning.assignment import Assignment
from solvers.planning.choices import C_ROOM
from solvers.planning.clearing import clearing_prices
from solvers.planning.dual import Dual, dual
from solvers.planning.pairs import pairs_of
from solvers.planning.prepare import Prepared

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Pairs = tuple[Int, NDArray[np.int32]]

ASK_WEIGHT = 0.1
"""Guidance prices lean this much towards the asks: among equally scarce nodes the cheap ones go first."""
DIVISIBLE_ROOM = 8
"""A gang is divisible, for prices, if a choice could hold so many of it."""

NEAR = 0.95
"""Refused gangs that bid more than so much of what they would pay at the market's prices are near it."""


class Guide(NamedTuple):
    """Slot prices that placements follow, and their walk."""

    price: Float
    walk: Arrays


class Market(NamedTuple):
    """Prices of the relaxation and what follows from them. `pairs`: None if it was not cleared here."""

    pairs: Pairs | None
    row_price: Float
    dual: Dual
    follow: Guide


def price(prepared: Prepared) -> Market:
    """Clear the relaxed market and evaluate the bound."""
    pairs = wanted_pairs(prepared)
    everyone = np.flatnonzero(prepared.standing.open)
    row_price = clear(prepared, pairs, in_units(prepared, prepared.capacity), everyone)
    return Market(pairs, row_price, dual(prepared, row_price), guide(prepared, row_price))


def wanted_pairs(prepared: Prepared) -> Pairs:
    """What each shape buys from, rows that ask more than its best bid left out."""
    gangs = prepared.problem.gangs
    most = np.zeros(prepared.shapes.table.shape[0])
    np.maximum.at(most, prepared.shapes.of_gang, gangs.value_micro_usd.astype(float))
    return pairs_of(prepared, most)


def in_units(prepared: Prepared, gpus: Int) -> Int:
    """Whole GPUs of each slot in units of `Problem.milli`, and what is left on cards with immovable parts."""
    problem = prepared.problem
    return gpus if problem.milli == 1 else gpus * problem.milli + problem.shared_left()[prepared.rows.node]


def clear(prepared: Prepared, pairs: Pairs, supply: Int, buyers: Int) -> Float:
    """Row prices that clear `supply` (slots,), in units of `Problem.milli`, among some gangs.

    The relaxation sees a part as its fraction of a GPU, and neither cards nor CPU and memory.
    """
    gangs = prepared.problem.gangs
    return clearing_prices(
        pairs[0],
        pairs[1],
        prepared.shapes.of_gang[buyers],
        prepared.problem.wanted()[buyers],
        gangs.value_micro_usd[buyers],
        prepared.rows.start,
        prepared.rows.ask,
        np.append(0, np.cumsum(supply)),
    )


def clear_the_rest(prepared: Prepared, market: Market, supply: Int, buyers: Int) -> Float:
    """Row prices of `supply` for some gangs; of a market that was not cleared here, its own prices."""
    return market.row_price if market.pairs is None else clear(prepared, market.pairs, supply, buyers)


def guide(prepared: Prepared, row_price: Float) -> Guide:
    """Guidance from row prices."""
    asks = prepared.ask.astype(float)
    price = (1 - ASK_WEIGHT) * np.maximum(asks, row_price[prepared.rows.row_of]) + ASK_WEIGHT * asks
    return Guide(price, prepared.walk(price))


def weights(prepared: Prepared, minimum: Float) -> Float:
    """Value over cheapest price, (gangs,): who comes first. 0 for gangs that fit nowhere."""
    fits = np.isfinite(minimum) & (minimum > 0)
    weight = np.where(fits, prepared.value / np.where(fits, minimum, 1.0), 0.0)
    return np.where(prepared.problem.gangs.must_serve, np.inf, weight)


def divisible_gangs(prepared: Prepared) -> NDArray[np.bool_]:
    """Gangs that could stand in many places at once, (gangs,)."""
    gangs, choices = prepared.problem.gangs, prepared.placed
    room = np.zeros(choices.first.size - 1)
    shape_of = np.repeat(np.arange(room.size), np.diff(choices.first))
    np.maximum.at(room, shape_of, choices.table[:, C_ROOM].astype(float))
    spread = ~gangs.one_fabric & ~np.isfinite(gangs.max_cluster_rtt_ms)
    return spread & (room[prepared.shapes.of_gang] >= DIVISIBLE_ROOM * gangs.replicas)


def left_to(divisible: NDArray[np.bool_], prepared: Prepared, assignment: Assignment) -> Int:
    """What indivisible gangs leave of each slot, (slots,), in units of `Problem.milli`: what those can share who
    can still come or go.
    """
    problem = prepared.problem
    gang, slot, take = assignment.entries()
    if problem.milli > 1:
        supply = in_units(prepared, prepared.capacity)
        rest = ~divisible[gang]
        used = take[rest] * problem.wanted()[gang[rest]] // problem.gangs.replicas[gang[rest]]
        np.subtract.at(supply, slot[rest], used)
        return supply
    mine = divisible[gang]
    supply = assignment.free.copy()
    np.add.at(supply, slot[mine], take[mine] * problem.gangs.gpus_per_replica[gang[mine]])
    return supply


def regrets(prepared: Prepared, market: Market, assignment: Assignment) -> Float:
    """What each gang lacks to the best it could have at the market's prices, (gangs,), dollars per hour."""
    gang, slot, take = assignment.entries()
    paid = take * prepared.problem.gangs.size(gang) * market.dual.price[slot]
    gained = np.where(assignment.placed, prepared.value, 0.0) - np.bincount(gang, paid, prepared.value.size)
    regret: Float = np.maximum(wishes(prepared, market) - gained, 0.0) / 1e6
    return regret


def wishes(prepared: Prepared, market: Market) -> Float:
    """The best that each gang could have at the market's prices, (gangs,), micro-USD per hour."""
    wished: Float = np.where(prepared.standing.open, np.maximum(prepared.value - market.dual.minimum, 0.0), 0.0)
    return wished
