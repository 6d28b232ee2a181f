"""The first plan: what runs stays, then gangs go where their price is least, those worth most per price first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvers.planning.assignment import Assignment
from solvers.planning.prepare import Prepared
from solvers.planning.relaxed_market import Guide, Market, weights
from solvers.planning.search import MOST_PAID, insert
from solvers.planning.uprooted import place_uprooted, uprooted

Int = NDArray[np.int64]


class Inserter(Protocol):
    """Places gangs in the order given; `most_paid` as in `insert`."""

    def __call__(self, order: Int, most_paid: float = np.inf) -> None:
        """Place what can be placed."""


def first_plan(
    prepared: Prepared, market: Market, begin: Callable[[Assignment], None] = Assignment.keep_what_runs
) -> Assignment:
    """Keep what runs, place who lost its nodes where nobody has to make room, then insert the others by weight.

    `begin` places those who stand already.
    """
    assignment = Assignment(prepared)
    begin(assignment)
    moving = uprooted(assignment)
    inserted = inserter(assignment, market.follow)
    order = by_weight(assignment, market)
    place_uprooted(assignment, order[moving[order]], inserted)
    inserted(order[~moving[order]], MOST_PAID)
    return assignment


def by_weight(assignment: Assignment, market: Market) -> Int:
    """All gangs, the most worth first."""
    return np.argsort(-weights(assignment.prepared, market.dual.minimum), kind="stable")


def inserter(assignment: Assignment, follow: Guide) -> Inserter:
    """Places the gangs it is given, in their order, where these prices are least (`insert`)."""
    prepared = assignment.prepared
    shapes, work = prepared.shape_arrays(prepared.placed), prepared.work()

    def insert_all(order: Int, most_paid: float = np.inf) -> None:
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
            most_paid,
        )

    return insert_all


def insert_by_weight(assignment: Assignment, market: Market, which: NDArray[np.bool_]) -> None:
    """Place what can be placed of some gangs (gangs,), the most worth first."""
    order = by_weight(assignment, market)
    inserter(assignment, market.follow)(order[which[order]])


def fill(assignment: Assignment, market: Market, which: NDArray[np.bool_]) -> None:
    """Give what is left to those of some gangs (gangs,) that can pay its ask, the most worth first.

    No other of them then fits on what is left for less than its value, but where `choices` do not list every
    placement (limits of the RTT).
    """
    ask, order = assignment.prepared.ask.astype(float), by_weight(assignment, market)
    inserter(assignment, Guide(ask, assignment.prepared.walk(ask)))(order[which[order]])
