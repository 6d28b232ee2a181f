"""The bound that prices prove: D(p) = Σ max(0, value − m(p)) + Σ cap·max(0, p − ask) (DESIGN, section 2).

m(p) is the cheapest placement of a gang in an otherwise empty fleet. It is exact but for gangs that limit the RTT
between their nodes: there it is the star bound (docs/planning.md, rule 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, leaf
from solvers.planning.cheapest import cheapest
from solvers.planning.choices import Choices
from solvers.planning.places import NOT_KEPT, blocks
from solvers.planning.prepare import Prepared
from solvers.planning.problem import MILLI
from solvers.planning.side_by_side import in_ranges

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Dual:
    """D at slot prices. `minimum` (gangs,): m(p), inf where a gang fits nowhere; `price`, (slots,), and its
    `walk`.
    """

    bound: float
    minimum: Float
    price: Float
    walk: Arrays


@leaf
def minima(
    chosen: Int,
    gangs: Arrays,
    shapes: Arrays,
    supply: Arrays,
    walk: Arrays,
    room: Arrays,
    price: Float,
    work: Arrays,
    minimum: Float,
) -> None:
    """The cheapest placement of each chosen gang by itself, moves included, into `minimum` (chosen,)."""
    for i in range(chosen.size):
        cost = cheapest(chosen[i], gangs, shapes, supply, walk, room, price, np.inf, work)[0]
        minimum[i] = cost + gangs[8][chosen[i]]


def cheapest_alone(
    prepared: Prepared, choices: Choices, walk: Arrays, price: Float, gangs: Int | None = None
) -> Float:
    """m(p) over `choices` of some gangs, of every gang without them; float64, one for each."""
    chosen = np.arange(prepared.problem.gangs.replicas.size) if gangs is None else gangs
    minimum, shapes = np.empty(chosen.size), prepared.shape_arrays(choices)

    def part(begin: int, end: int) -> None:
        # Blocks of its own: while one thread counts what is free in a block, another could take it for full.
        own = *walk[:3], *blocks(walk[0].size), *NOT_KEPT
        minima(
            chosen[begin:end], prepared.gangs, shapes, prepared.supply, own, prepared.room, price,
            prepared.work(), minimum[begin:end],
        )  # fmt: skip

    in_ranges(chosen.size, part)
    return minimum


class Alone:
    """m(p) over `choices` at one price, `price` (slots,), of gangs that are asked for: each is looked at once."""

    def __init__(self, prepared: Prepared, choices: Choices, price: Float) -> None:
        self._prepared, self._choices, self.price = prepared, choices, price
        self._walk: Arrays | None = None
        self._minimum = np.full(prepared.problem.gangs.replicas.size, np.nan)

    def of(self, gangs: Int) -> Float:
        """Of these gangs, (gangs,); inf: it fits nowhere."""
        new = gangs[np.isnan(self._minimum[gangs])]
        if new.size:
            self._walk = self._walk or self._prepared.walk(self.price)
            self._minimum[new] = cheapest_alone(self._prepared, self._choices, self._walk, self.price, new)
        return self._minimum[gangs]


def alone_at_asks(prepared: Prepared, choices: Choices) -> Float:
    """What every gang would pay at the asks in an otherwise empty fleet, (gangs,); inf: it fits nowhere."""
    return Alone(prepared, choices, prepared.ask.astype(float)).of(np.arange(prepared.value.size))


def dual(prepared: Prepared, row_price: Float) -> Dual:
    """Evaluate D at p = max(ask, price of the row). Work that must stay served counts without max(0, ·)."""
    price = (
        np.maximum(prepared.ask, row_price[prepared.rows.row_of]) if row_price.size else prepared.ask.astype(float)
    )
    walk = prepared.walk(price)
    minimum = cheapest_alone(prepared, prepared.relaxed, walk, price)
    surplus = prepared.value - minimum
    surplus[~prepared.standing.open | (~prepared.problem.gangs.must_serve & ~(surplus > 0))] = 0.0
    surplus_each = prepared.capacity * (price - prepared.ask)
    if prepared.problem.milli > 1:
        surplus_each += prepared.problem.shared_left()[prepared.rows.node] * (price - prepared.ask) / MILLI
    sellers = float(surplus_each.sum())  # BLAS would add by number of cores
    return Dual(float(surplus.sum()) + sellers + prepared.constant, minimum, price, walk)
