"""What demand pays for what is left of a fleet that works: the market of this folder, cleared now and then.

`solvers.sharing.scheduler` clears its market over every node of a small fleet. Here nodes in the same state are
one row that counts for all of them, and where that leaves too many rows CPU and memory are told apart less finely
(rounded down, so that nothing is promised that is not there). Bids are for models; what else a request wants of
a node (place, tier, supplier) does not enter: it would part the market into as many as there are wishes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.sharing.clearing import clear, empty_market
from solvers.sharing.fleet import Machines, Shapes, SharedFleet
from solvers.sharing.scheduler import alike_as_one, grid_of
from solvers.sharing.tables import Float
from solvers.spare import MILLI, NO_ROW, NOT_LIMITED, Spare

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
STATES_MAX = 10_000
"""Rows that a clearing looks at; its cost is this times the steps, some 2 µs each."""
STEPS = 50


@dataclass(frozen=True, slots=True)
class Wants:
    """What is asked for: `shapes` of one replica each, (K,); `arrived` (K,): how much of each, in any unit of
    replicas over time; `pays` (K,): the money of one, in any currency.
    """

    shapes: Shapes
    arrived: Float
    pays: Float


@dataclass(frozen=True, slots=True)
class Worth:
    """Prices of what is left of nodes. `kind` (models,): the row of a model in `card` and `group`.

    `cpu_price`, `memory_price` (Q,): the grid. `card` (kinds, 101, Q): what r/100 of a card brings; `group`
    (kinds, cards + 1, Q): what f whole cards bring. `fill` (K,): where the next clearing goes on from.
    """

    kind: Int
    cpu_price: Float
    memory_price: Float
    card: Float
    group: Float
    fill: Float

    def arrays(self) -> Arrays:
        """As kernels take it."""
        return self.kind, self.cpu_price, self.memory_price, self.card, self.group


def cleared(wants: Wants, states: SharedFleet, scale: tuple[float, float], fill: Float) -> Worth:
    """Clear the market of what is free. `scale`: GPU milli per milli-CPU and per MiB of the whole fleet, 0 where
    none is limited. `fill`: of the clearing before, shorter where shapes are new.
    """
    shapes, fleet, kind = alike_as_one(wants.shapes, states)
    grid = grid_of(*scale)
    market = empty_market(shapes[-1].shape[1], states.card_left.shape[1], grid[0].size)
    fills = np.ones(wants.arrived.size)
    fills[: fill.size] = fill
    clear(shapes, fleet, wants.arrived, wants.pays, grid, market, fills, np.zeros(fills.size), STEPS)
    return Worth(kind, *grid, market[0][0], market[0][1], fills)


def states_of(model: Int, free: Int, spare: Spare, cards: int) -> SharedFleet:
    """What is left of open nodes, equal ones once. `model`, `free` whole GPUs (nodes,); `cards`: a node's most."""
    left, pattern = _cards_left(free, spare, cards)
    something = np.flatnonzero(left.sum(axis=1))
    used = np.flatnonzero(np.isin(pattern, something) & spare.is_open)
    model, pattern = model[used], pattern[used]
    cpu_milli, memory_mib, step = spare.cpu_milli[used], spare.memory_mib[used], 1
    while True:
        cpu, memory = _rounded(cpu_milli, step), _rounded(memory_mib, step)
        first, alike = _alike(model, pattern, cpu, memory)
        if first.size <= STATES_MAX:
            return _fleet(model[first], cpu[first], memory[first], left[pattern[first]], alike)
        step *= 4


def scale_of(gpus: Int, cpu_milli: Int, memory_mib: Int) -> tuple[float, float]:
    """GPU milli per milli-CPU and per MiB, of the nodes (nodes,) where these are limited; 0 where none is."""
    return _per_unit(gpus, cpu_milli), _per_unit(gpus, memory_mib)


def _per_unit(gpus: Int, there: Int) -> float:
    limited = there < NOT_LIMITED
    return float(gpus[limited].sum()) * MILLI / max(float(there[limited].sum()), 1.0)


def _cards_left(free: Int, spare: Spare, cards: int) -> tuple[Int, Int]:
    """Thousandths left on each card, most first, (patterns, cards); and which pattern each node has, (nodes,)."""
    whole = np.where(np.arange(cards) < np.arange(cards + 1)[:, None], MILLI, 0)
    shared = np.flatnonzero(spare.cards.row_of != NO_ROW)
    parts = np.maximum(spare.cards.left[spare.cards.row_of[shared]], 0)
    both = -np.sort(-np.concatenate((whole[free[shared]], parts), axis=1), axis=1)[:, :cards]
    distinct, which = np.unique(both, axis=0, return_inverse=True)
    pattern = free.copy()
    pattern[shared] = cards + 1 + which.reshape(-1)
    return np.concatenate((whole, distinct)), pattern


def _rounded(left: Int, step: int) -> Int:
    return np.where(left < NOT_LIMITED, left // step * step, NOT_LIMITED)


def _alike(*columns: Int) -> tuple[Int, Int]:
    """(the first row of each kind, how many of it there are) of equal rows."""
    key = np.zeros(columns[0].size, dtype=np.int64)
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        key = np.unique(key * max(values.size, 1) + place.reshape(-1), return_inverse=True)[1].reshape(-1)
    _, first, alike = np.unique(key, return_index=True, return_counts=True)
    return first, alike.astype(np.int64)


def _fleet(model: Int, cpu_milli: Int, memory_mib: Int, left: Int, alike: Int) -> SharedFleet:
    fleet = SharedFleet(Machines(model, (left > 0).sum(axis=1), cpu_milli, memory_mib))
    fleet.card_left, fleet.alike = np.ascontiguousarray(left), alike
    fleet.untouched[:] = False
    return fleet
