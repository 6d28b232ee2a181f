"""Which pods stand behind the tables: the best filling of a card and of whole cards, at one model and grid point.

Only the grid points where nodes have their prices are asked for, a few of sixty, so a column is found when it is
asked for first, by the same sums as in `solvers.sharing.tables` and hence to the same last bit. Of shapes that
bring the same the first is taken; of fillings, the one with the smaller sizes.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.fleet import Int
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.tables import LEVELS, Float, surplus

NOBODY = -1
CARD = 1
"""Taken of whole cards: one, which is filled like any card."""


def empty_columns(models: int, most_cards: int, points: int) -> Arrays:
    """For r levels of a card (models, Q, LEVELS + 1) and f whole ones (models, Q, most + 1): what is taken first
    (levels; cards), by which shape, the CPU of all that is taken. Last, which columns are known (models, Q).
    """

    def of(count: int) -> Arrays:
        shape = models, points, count + 1
        return np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64), np.zeros(shape)

    return *of(LEVELS), *of(most_cards), np.zeros((models, points), dtype=np.bool_)


@finite_kernel
def know(
    shapes: Arrays, place: Int, bid: Float, grid: Arrays, tables: Arrays, columns: Arrays, model: int, q: int
) -> None:
    """Find a column."""
    level_takes, level_by, level_cpu, group_takes, group_by, group_cpu, known = columns
    known[model, q] = True
    brings = tables[2][model, :, q].copy()
    by = _first_who_bring(shapes, place, bid, (grid[0][q], grid[1][q]), model, brings)
    levels = level_takes[model, q], level_by[model, q], level_cpu[model, q]
    card = _know_levels(shapes[0], brings, by, *levels)
    groups = group_takes[model, q], group_by[model, q], group_cpu[model, q]
    _know_groups(shapes[0], brings, by, *groups, card, level_cpu[model, q, LEVELS])


@finite_kernel
def _first_who_bring(
    shapes: Arrays, place: Int, bid: Float, price: tuple[float, float], model: int, brings: Float
) -> Int:
    """The shape that brings the most to each place, NOBODY where nobody brings anything."""
    cpu, memory, _, _, accepted = shapes
    wanted, by = np.where(brings > 0.0, brings, np.inf), np.full(brings.size, NOBODY)
    for shape in range(bid.size):
        own = surplus(bid[shape], cpu[shape], memory[shape], *price)
        if own == wanted[place[shape]] and accepted[shape, model]:
            wanted[place[shape]], by[place[shape]] = np.inf, shape
    return by


@finite_kernel
def _know_levels(cpu: Int, brings: Float, by: Int, takes: Int, who: Int, cpu_asked: Float) -> float:
    """What a whole card brings, filled like any card."""
    most = np.zeros(LEVELS + 1)
    takes.fill(0)
    for size in range(1, LEVELS + 1):
        if by[size] != NOBODY:
            for left in range(size, LEVELS + 1):
                worth = brings[size] + most[left - size]
                if worth > most[left]:
                    most[left], takes[left] = worth, size
    for left in range(1, LEVELS + 1):
        if takes[left] > 0:
            who[left] = by[takes[left]]
            cpu_asked[left] = cpu[who[left]] + cpu_asked[left - takes[left]]
        else:
            who[left], cpu_asked[left] = NOBODY, 0.0
    return float(most[LEVELS])


@finite_kernel
def _know_groups(
    cpu: Int, brings: Float, by: Int, takes: Int, who: Int, cpu_asked: Float, card: float, card_cpu: float
) -> None:
    most = np.zeros(takes.size)
    for free in range(1, takes.size):
        most[free], takes[free], cpu_asked[free] = most[free - 1] + card, CARD, cpu_asked[free - 1] + card_cpu
        for count in range(2, free + 1):
            shape = by[LEVELS + count]
            worth = brings[LEVELS + count] + most[free - count]
            if shape != NOBODY and worth > most[free]:
                most[free], takes[free], who[free] = worth, count, shape
                cpu_asked[free] = cpu_asked[free - count] + cpu[shape]


@finite_kernel
def add_card(columns: Arrays, model: int, q: int, level: int, weight: float, used: Float) -> None:
    """Add `weight` to `used` (K,) for each pod that fills so many levels of a card."""
    takes, who = columns[0][model, q], columns[1][model, q]
    while takes[level] > 0:
        used[who[level]] += weight
        level -= takes[level]


@finite_kernel
def add_group(columns: Arrays, model: int, q: int, free: int, weight: float, used: Float) -> None:
    """The same for so many whole cards."""
    takes, who = columns[3][model, q], columns[4][model, q]
    while free > 0:
        if takes[free] == CARD:
            add_card(columns, model, q, LEVELS, weight, used)
        else:
            used[who[free]] += weight
        free -= takes[free]
