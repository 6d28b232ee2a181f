"""Prices from a convex relaxation, then greedy by surplus: the recipe of CvxCluster (2026).

The relaxation serves gangs in parts, within pools; its dual gives a price per pool. Each gang then knows what it
would gain at those prices, and the gangs are placed whole in the order of that surplus, each where the prices, or
else the asks, make it cheapest among what is left; the better of the two plans counts. Of the orders that we tried
(surplus, per GPU, per root of GPUs, value over cost) the one per root of GPUs is best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.greedy import placed_in_order
from benchmarks.peers.score import welfare_of
from solvers.planning.clearing import clearing_prices
from solvers.planning.dual import dual
from solvers.planning.moves import Placed
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import Problem


def price_then_greedy(problem: Problem, limit_s: float) -> Placed:
    """Takes no notice of the limit: it needs a few seconds."""
    prepared = prepare(problem)
    at_prices = dual(prepared, relaxed_prices(prepared))
    surplus = (prepared.value - at_prices.minimum) / np.sqrt(problem.gangs.gpus)
    able = np.flatnonzero(np.isfinite(surplus))
    order = able[np.argsort(-surplus[able], kind="stable")]
    asks = prepared.ask.astype(np.float64)
    plans = [
        placed_in_order(prepared, order, price, walk)
        for price, walk in ((at_prices.price, at_prices.walk), (asks, prepared.walk(asks)))
    ]
    return max(plans, key=lambda plan: welfare_of(problem, plan))


def relaxed_prices(prepared: Prepared) -> NDArray[np.float64]:
    """The dual price of each row, (rows,) float64, micro-USD per GPU-hour."""
    gangs, rows, shapes = prepared.problem.gangs, prepared.rows, prepared.shapes
    return clearing_prices(
        shapes.first,
        shapes.rows,
        shapes.of_gang,
        gangs.gpus,
        gangs.value_micro_usd,
        rows.start,
        rows.ask,
        np.append(0, np.cumsum(prepared.capacity)),
    )
