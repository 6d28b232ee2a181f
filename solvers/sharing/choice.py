"""Where one pod does least damage: V(before) − V(after), node by node and card by card.

After a placement on a card only two table rows change in the node's vector, so a candidate costs one pass over the
grid. Most cost one look: V(after) is a least entry, so it is at most the entry where V(before) lies, and what the
place destroys is at least the difference there. If that does no better than the best place so far, the pass is
left out. Rounding keeps the order of two differences, so the answer is the same to the last bit. Equal untouched
nodes and the whole cards of a node are tried once.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.fleet import CARD_MILLI, NOWHERE, WHOLE, Int
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.tables import LEVEL_MILLI, Float


@finite_kernel
def least_cost_place(
    shapes: Arrays, fleet: Arrays, grid: Arrays, card: Float, group: Float, valued: Arrays, shape: int
) -> tuple[int, int, float]:
    """(node, card, cost) of the cheapest place; NOWHERE if the pod fits on no node. `valued`: `empty_values`."""
    freed = grid[0] * shapes[0][shape] + grid[1] * shapes[1][shape]
    gpus, milli = shapes[2][shape], shapes[3][shape]
    nodes = np.empty(valued[1].size, dtype=np.int64)
    count = _with_room(shapes, fleet, valued, shape, nodes)
    if gpus == 1 and milli < CARD_MILLI:
        return _for_part(fleet, card, group, valued, freed, milli, nodes[:count])
    return _for_whole(fleet, group, valued, freed, gpus, nodes[:count])


@finite_kernel
def _for_whole(
    fleet: Arrays, group: Float, valued: Arrays, freed: Float, gpus: int, nodes: Int
) -> tuple[int, int, float]:
    model, (vectors, free, value, least, _) = fleet[4], valued
    best_node, best_cost = NOWHERE, np.inf
    for node in nodes:
        before, after = group[model[node], free[node]], group[model[node], free[node] - gpus]
        vector, q = vectors[node], least[node]
        if value[node] - (vector[q] - freed[q] + (after[q] - before[q])) >= best_cost:
            continue
        cost = value[node] - _least(vector, freed, before, after)
        if cost < best_cost:
            best_node, best_cost = node, cost
    return best_node, WHOLE, best_cost


@finite_kernel
def _for_part(
    fleet: Arrays, card: Float, group: Float, valued: Arrays, freed: Float, milli: int, nodes: Int
) -> tuple[int, int, float]:
    card_left, cards, model, (vectors, free, value, least, _) = fleet[2], fleet[3], fleet[4], valued
    best_node, best_card, best_cost, best_left = NOWHERE, WHOLE, np.inf, 0
    for node in nodes:
        kind, vector, q, fresh = model[node], vectors[node], least[node], False
        for place in range(cards[node]):
            left = card_left[node, place]
            if left < milli or (fresh and left == CARD_MILLI):
                continue
            rest = card[kind, (left - milli) // LEVEL_MILLI]
            before, after = card[kind, left // LEVEL_MILLI], card[kind, 0]
            if left == CARD_MILLI:
                fresh, before, after = True, group[kind, free[node]], group[kind, free[node] - 1]
            floor = value[node] - (vector[q] - freed[q] + (after[q] - before[q] + rest[q]))
            if not better(floor, left, best_cost, best_left):
                continue
            cost = value[node] - _least_of_part(vector, freed, before, after, rest)
            if better(cost, left, best_cost, best_left):
                best_node, best_card, best_cost, best_left = node, place, cost, left
    return best_node, best_card, best_cost


@finite_kernel
def better(cost: float, left: int, best_cost: float, best_left: int) -> bool:
    """Whether a card with so much left comes before the best one so far."""
    return cost < best_cost or (cost == best_cost and left < best_left)


@finite_kernel
def _with_room(shapes: Arrays, fleet: Arrays, valued: Arrays, shape: int, nodes: Int) -> int:
    """Write the nodes on which one more pod of this shape fits, in their order; how many."""
    cpu_left, memory_left, _, _, model, untouched, kind, _ = fleet
    _, free, _, _, most = valued
    cpu, memory, gpus, milli = shapes[0][shape], shapes[1][shape], shapes[2][shape], shapes[3][shape]
    accepted = shapes[4][shape]
    whole = gpus if milli == CARD_MILLI else 0
    seen, count = np.zeros(kind.size, dtype=np.bool_), 0
    for node in range(cpu_left.size):
        on_cards = accepted[model[node]] & (free[node] >= whole) & (most[node] >= milli)
        nodes[count] = node
        if (cpu_left[node] >= cpu) & (memory_left[node] >= memory) & (on_cards | (gpus == 0)):
            count += not (untouched[node] and seen[kind[node]])
            seen[kind[node]] |= untouched[node]
    return count


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
