"""Cheapest fit, one gang after the other: by arrival, or the highest bid first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.greedy import placed_in_order
from solvers.planning.moves import Placed
from solvers.planning.prepare import prepare
from solvers.planning.problem import Problem


def first_come(problem: Problem, limit_s: float) -> Placed:
    """Each gang by arrival, which is its number, takes the cheapest nodes left, if it can pay their asks."""
    return _cheapest_fit(problem, np.arange(problem.gangs.replicas.size))


def highest_bid(problem: Problem, limit_s: float) -> Placed:
    """The same in order of max_price, ties by arrival: what a sorted queue without any planning reaches."""
    return _cheapest_fit(problem, np.argsort(-problem.gangs.value_micro_usd, kind="stable"))


def _cheapest_fit(problem: Problem, order: NDArray[np.int64]) -> Placed:
    prepared = prepare(problem)
    asks = prepared.ask.astype(np.float64)
    return placed_in_order(prepared, order, asks, prepared.walk(asks))
