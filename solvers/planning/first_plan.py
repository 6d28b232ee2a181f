"""The first plan: what runs stays, then gangs go where their price is least, those worth most per price first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.planning.assignment import Assignment
from solvers.planning.prepare import Prepared
from solvers.planning.relaxed_market import Market, weights
from solvers.planning.search import insert
from solvers.planning.uprooted import place_uprooted, uprooted

Int = NDArray[np.int64]


def first_plan(
    prepared: Prepared, market: Market, begin: Callable[[Assignment], None] = Assignment.keep_what_runs
) -> Assignment:
    """Keep what runs, place who lost its nodes where nobody has to make room, then insert the others by weight.

    `begin` places those who stand already.
    """
    assignment = Assignment(prepared)
    begin(assignment)
    moving = uprooted(assignment)
    inserted = inserter(assignment, market)
    order = by_weight(assignment, market)
    place_uprooted(assignment, order[moving[order]], inserted)
    inserted(order[~moving[order]])
    return assignment


def by_weight(assignment: Assignment, market: Market) -> Int:
    """All gangs, the most worth first."""
    return np.argsort(-weights(assignment.prepared, market.dual.minimum), kind="stable")


def inserter(assignment: Assignment, market: Market) -> Callable[[Int], None]:
    """Places the gangs it is given, in their order, where the market's prices are least."""
    prepared = assignment.prepared
    shapes, work = prepared.shape_arrays(prepared.placed), prepared.work()
    follow = market.follow

    def insert_all(order: Int) -> None:
        follow.walk[4][:] = True  # what is free may have changed: every block is looked at again
        insert(
            order,
            prepared.gangs,
            shapes,
            prepared.supply,
            follow.walk,
            follow.price,
            prepared.ask,
            prepared.value,
            assignment.state,
            work,
        )

    return insert_all


def insert_by_weight(assignment: Assignment, market: Market, which: NDArray[np.bool_]) -> None:
    """Place what can be placed of some gangs (gangs,), the most worth first."""
    order = by_weight(assignment, market)
    inserter(assignment, market)(order[which[order]])
