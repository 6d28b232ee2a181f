"""The slow twins of choice and clearing: every table entry, node and pod one after the other, the same sums.

Sums stand in the order in which the kernels take them, so answers must be equal to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.sharing.clearing import LEAST_FILL, STEP
from solvers.sharing.fleet import CARD_MILLI, NOWHERE, Int, Shapes, SharedFleet
from solvers.sharing.tables import LEVEL_MILLI, LEVELS, Float
from tests.solvers.sharing.small_fleets import places_of

NOBODY = -1
Grid = tuple[Float, Float]


@dataclass
class PlainTables:
    """(models, levels or cards + 1, Q): the most that is brought, what is chosen first, who brings it alone."""

    card: Float
    card_chosen: Int
    card_by: Int
    group: Float
    group_chosen: Int
    group_by: Int


def plain_tables(shapes: Shapes, bid: Float, grid: Grid, most_cards: int) -> PlainTables:
    """Both dynamic programmes, each model and shape for itself."""
    models = shapes.models.shape[1]
    brings, by = _brings(shapes, bid, grid, LEVELS, many=False)
    card, chosen = np.zeros_like(brings), np.zeros_like(by)
    for model in range(models):
        for size in np.flatnonzero(brings[model].any(axis=1)).tolist():
            for left in range(size, LEVELS + 1):
                worth = brings[model, size] + card[model, left - size]
                better = worth > card[model, left]
                card[model, left][better], chosen[model, left][better] = worth[better], size
    group_brings, group_by = _brings(shapes, bid, grid, most_cards, many=True)
    group, group_chosen = np.zeros_like(group_brings), np.ones_like(group_by)
    for model in range(models):
        for free in range(1, most_cards + 1):
            group[model, free] = group[model, free - 1] + card[model, LEVELS]
            for count in range(2, free + 1):
                worth = group_brings[model, count] + group[model, free - count]
                better = (group_brings[model, count] > 0.0) & (worth > group[model, free])
                group[model, free][better], group_chosen[model, free][better] = worth[better], count
    return PlainTables(card, chosen, by, group, group_chosen, group_by)


def _brings(shapes: Shapes, bid: Float, grid: Grid, most: int, many: bool) -> tuple[Float, Int]:
    table = shapes.models.shape[1], most + 1, grid[0].size
    brings, by = np.zeros(table), np.full(table, NOBODY)
    for k in np.flatnonzero((bid > 0.0) & ((shapes.gpus > 1) == many)):
        place = int(shapes.gpus[k]) if many else -(-int(shapes.gpu_milli[k]) // LEVEL_MILLI)
        surplus = bid[k] - grid[0] * shapes.cpu_milli[k] - grid[1] * shapes.memory_mib[k]
        for model in np.flatnonzero(shapes.models[k]) if place <= most else ():
            better = surplus > brings[model, place]
            brings[model, place][better], by[model, place][better] = surplus[better], k
    return brings, by


def plain_vector(fleet: SharedFleet, node: int, grid: Grid, card: Float, group: Float) -> Float:
    """α·cpu + β·memory + Σ card + group over the grid."""
    model, left = int(fleet.machines.model[node]), fleet.card_left[node, : fleet.machines.gpus[node]]
    vector: Float = grid[0] * fleet.cpu_left[node] + grid[1] * fleet.memory_left[node]
    for milli in left[left < CARD_MILLI]:
        vector = vector + card[model, milli // LEVEL_MILLI]
    vector += group[model, int((left == CARD_MILLI).sum())]
    return vector


def plain_clear(
    shapes: Shapes, fleet: SharedFleet, arrived: Float, pays: Float, grid: Grid, steps: int
) -> tuple[Float, Float, PlainTables]:
    """(fills, bids, tables) after so many steps from fills of 1."""
    filled, most_cards = np.ones(arrived.size), fleet.card_left.shape[1]
    asked = (arrived * shapes.gpus * shapes.gpu_milli).sum()
    slots = arrived * max(float(fleet.card_left.sum()), LEVEL_MILLI) / max(asked, 1.0)
    for _ in range(steps):
        bid = np.where(arrived > 0, pays / np.maximum(filled, LEAST_FILL), 0.0)
        tables = plain_tables(shapes, bid, grid, most_cards)
        used = np.zeros(arrived.size)
        for node in range(fleet.machines.gpus.size):
            _sell(shapes, fleet, grid, tables, node, used)
        sold = bid > 0.0
        filled[sold] += STEP * (used[sold] / slots[sold] - filled[sold])
    return filled, bid, tables


def _sell(shapes: Shapes, fleet: SharedFleet, grid: Grid, tables: PlainTables, node: int, used: Float) -> None:
    vector, have = plain_vector(fleet, node, grid, tables.card, tables.group), float(fleet.cpu_left[node])
    if vector.min() <= 0.0:
        return
    low = int(vector.argmin())
    at_low = _filling(fleet, tables, node, low)
    low_cpu = float(shapes.cpu_milli[at_low].sum())
    high, share = (low + 1 if low_cpu > have else low - 1), 1.0
    at_high: list[int] = []
    if 0 <= high < grid[0].size and grid[1][high] == grid[1][low]:
        at_high = _filling(fleet, tables, node, high)
        high_cpu = float(shapes.cpu_milli[at_high].sum())
        if low_cpu != high_cpu:
            share = min(max((have - high_cpu) / (low_cpu - high_cpu), 0.0), 1.0)
    for shape in at_low:
        used[shape] += share
    for shape in at_high:
        used[shape] += 1.0 - share


def _filling(fleet: SharedFleet, tables: PlainTables, node: int, q: int) -> list[int]:
    """Shapes of the pods in the best filling of a node."""
    model, left = int(fleet.machines.model[node]), fleet.card_left[node, : fleet.machines.gpus[node]]
    levels = [int(milli) // LEVEL_MILLI for milli in left if milli < CARD_MILLI]
    free, found = int((left == CARD_MILLI).sum()), []
    while free > 0:
        count = int(tables.group_chosen[model, free, q])
        if count == 1:
            levels.append(LEVELS)
        else:
            found.append(int(tables.group_by[model, count, q]))
        free -= count
    for level in levels:
        while size := int(tables.card_chosen[model, level, q]):
            found.append(int(tables.card_by[model, size, q]))
            level -= size
    return found


def plain_place(
    shapes: Shapes, fleet: SharedFleet, grid: Grid, card: Float, group: Float, shape: int
) -> tuple[int, int, float]:
    """(node, card, cost) of the cheapest place, all tried; ties to the tighter card, then the first."""
    freed = grid[0] * shapes.cpu_milli[shape] + grid[1] * shapes.memory_mib[shape]
    milli, gpus = int(shapes.gpu_milli[shape]), int(shapes.gpus[shape])
    tried = [(np.inf, 0, NOWHERE, -1)]
    for node, place in places_of(shapes, fleet, shape):
        vector = plain_vector(fleet, node, grid, card, group)
        rows, wholes = card[fleet.machines.model[node]], group[fleet.machines.model[node]]
        free = int((fleet.card_left[node] == CARD_MILLI).sum())
        left = int(fleet.card_left[node, place]) if place >= 0 else 0
        if place < 0:
            change = wholes[free - gpus] - wholes[free]
        elif left == CARD_MILLI:
            change = wholes[free - 1] - wholes[free] + rows[(left - milli) // LEVEL_MILLI]
        else:
            change = rows[0] - rows[left // LEVEL_MILLI] + rows[(left - milli) // LEVEL_MILLI]
        cost = vector.min() - (vector - freed + change).min()
        tried.append((float(cost), left, node, place))
    cost, _, node, place = min(tried)
    return node, place, cost
