"""Where one pod does least damage: V(before) − V(after), node by node and card by card.

After a placement on a card only two table rows change in the node's vector, so a candidate costs one pass over the
grid. Equal untouched nodes and equal cards of a node are tried once.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.fleet import CARD_MILLI, NOWHERE, WHOLE, fits, repeats
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.values import LEVEL_MILLI, Float


@finite_kernel
def least_cost_place(
    shapes: Arrays, fleet: Arrays, grid: Arrays, card: Float, group: Float, kept: Arrays, shape: int
) -> tuple[int, int, float]:
    """(node, card, cost) of the cheapest place; NOWHERE if the pod fits on no node."""
    cards, model, untouched, kind = fleet[3], fleet[4], fleet[5], fleet[6]
    _, _, vectors, free, value = kept
    freed = grid[0] * shapes[0][shape] + grid[1] * shapes[1][shape]
    part = shapes[2][shape] == 1 and shapes[3][shape] < CARD_MILLI
    seen = np.zeros(kind.size, dtype=np.bool_)
    best_node, best_card, best_cost, best_left = NOWHERE, WHOLE, np.inf, 0
    for node in range(cards.size):
        if untouched[node]:
            if seen[kind[node]]:
                continue
            seen[kind[node]] = True
        if not fits(shapes, fleet, shape, node):
            continue
        rows, wholes = card[model[node]], group[model[node]]
        if not part:
            after = wholes[free[node] - shapes[2][shape]]
            cost = value[node] - _least(vectors[node], freed, wholes[free[node]], after)
            if cost < best_cost:
                best_node, best_card, best_cost, best_left = node, WHOLE, cost, 0
            continue
        for place in range(cards[node]):
            left = fleet[2][node, place]
            if left < shapes[3][shape] or repeats(fleet[2], node, place):
                continue
            rest = rows[(left - shapes[3][shape]) // LEVEL_MILLI]
            if left == CARD_MILLI:
                after, before = wholes[free[node] - 1], wholes[free[node]]
            else:
                after, before = rows[0], rows[left // LEVEL_MILLI]
            cost = value[node] - _least_of_part(vectors[node], freed, before, after, rest)
            if cost < best_cost or (cost == best_cost and left < best_left):
                best_node, best_card, best_cost, best_left = node, place, cost, left
    return best_node, best_card, best_cost


@finite_kernel
def _least(vector: Float, freed: Float, before: Float, after: Float) -> float:
    least = np.inf
    for q in range(vector.size):
        worth = vector[q] - freed[q] + (after[q] - before[q])
        least = min(least, worth)
    return least


@finite_kernel
def _least_of_part(vector: Float, freed: Float, before: Float, after: Float, rest: Float) -> float:
    least = np.inf
    for q in range(vector.size):
        worth = vector[q] - freed[q] + (after[q] - before[q] + rest[q])
        least = min(least, worth)
    return least
