"""What the bids of shapes pay for what is left: per card, per group of whole cards, per node.

Grid point q prices a milli-CPU at `cpu_price[q]` and a MiB at `memory_price[q]`. With those paid, shape k brings
its surplus w_k − α·c_k − β·m_k. Per GPU model and grid point:

    card[r]  = most surplus that fits on r/LEVELS of a card (parts, or one pod that takes all of it)
    group[f] = most that f whole cards bring: pods of several cards, or each card by itself

Both are exact dynamic programmes. Parts round up to a level, what is left rounds down, so no value is promised
that does not fit. A node's vector is α·cpu + β·memory + Σ card + group; V is its least entry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.sharing.fleet import CARD_MILLI, Int
from solvers.sharing.kernels import Arrays, finite_kernel

Float = NDArray[np.float64]

LEVELS = 100
LEVEL_MILLI = CARD_MILLI // LEVELS
NOBODY = -1


def empty_tables(models: int, most_cards: int, points: int) -> Arrays:
    """(card, group, brought by a size, who, size chosen, brought by a group, who, group chosen), for `fill`."""

    def floats(count: int) -> Float:
        return np.zeros((models, count + 1, points))

    def ints(count: int) -> Int:
        return np.zeros((models, count + 1, points), dtype=np.int64)

    cards = (floats(LEVELS), ints(LEVELS), ints(LEVELS))
    groups = (floats(most_cards), ints(most_cards), ints(most_cards))
    return floats(LEVELS), floats(most_cards), *cards, *groups


@finite_kernel
def fill(shapes: Arrays, bid: Float, grid: Arrays, tables: Arrays) -> None:
    """Write all tables for these bids (K,); shapes that bid 0 count for nothing."""
    card, group, size_brings, size_by, size_chosen, group_brings, group_by, group_chosen = tables
    _best_shapes(shapes, bid, grid, size_brings, size_by, group_brings, group_by)
    for model in range(card.shape[0]):
        _fill_card(card[model], size_brings[model], size_by[model], size_chosen[model])
        _fill_groups(group[model], card[model, LEVELS], group_brings[model], group_chosen[model])


@finite_kernel
def _best_shapes(
    shapes: Arrays, bid: Float, grid: Arrays, size_brings: Float, size_by: Int, group_brings: Float, group_by: Int
) -> None:
    cpu, memory, gpus, gpu_milli, accepted = shapes
    cpu_price, memory_price = grid
    size_brings.fill(0.0)
    size_by.fill(NOBODY)
    group_brings.fill(0.0)
    group_by.fill(NOBODY)
    for shape in range(bid.size):
        if bid[shape] <= 0.0:
            continue
        brings, by, place = size_brings, size_by, -(-gpu_milli[shape] // LEVEL_MILLI)
        if gpus[shape] > 1:
            brings, by, place = group_brings, group_by, gpus[shape]
        if place >= brings.shape[1]:
            continue
        for model in range(accepted.shape[1]):
            if accepted[shape, model]:
                for q in range(cpu_price.size):
                    surplus = bid[shape] - cpu_price[q] * cpu[shape] - memory_price[q] * memory[shape]
                    if surplus > brings[model, place, q]:
                        brings[model, place, q] = surplus
                        by[model, place, q] = shape


@finite_kernel
def _fill_card(card: Float, brings: Float, by: Int, chosen: Int) -> None:
    """Unbounded knapsack, one size after the other: card[r] over what fits into r levels; chosen 0: nothing."""
    card.fill(0.0)
    chosen.fill(0)
    for size in range(1, LEVELS + 1):
        if not _anybody(by[size]):
            continue
        for left in range(size, LEVELS + 1):
            for q in range(card.shape[1]):
                worth = brings[size, q] + card[left - size, q]
                if worth > card[left, q]:
                    card[left, q] = worth
                    chosen[left, q] = size


@finite_kernel
def _anybody(by: Int) -> bool:
    for shape in by:  # noqa: SIM110 — numba compiles no generator
        if shape != NOBODY:
            return True
    return False


@finite_kernel
def _fill_groups(group: Float, whole_card: Float, brings: Float, chosen: Int) -> None:
    """group[f] = max over pods of n ≤ f cards of brings[n] + group[f − n]; chosen 1: a card by itself."""
    for free in range(1, group.shape[0]):
        for q in range(group.shape[1]):
            group[free, q] = group[free - 1, q] + whole_card[q]
            chosen[free, q] = 1
            for count in range(2, free + 1):
                worth = brings[count, q] + group[free - count, q]
                if brings[count, q] > 0.0 and worth > group[free, q]:
                    group[free, q] = worth
                    chosen[free, q] = count


@finite_kernel
def value_node(fleet: Arrays, node: int, grid: Arrays, card: Float, group: Float, vector: Float) -> int:
    """Write the node's vector over the grid; how many of its cards are whole."""
    cpu_left, memory_left, card_left, cards, model = fleet[:5]
    cpu_price, memory_price = grid
    cpu, memory, kind, free = cpu_left[node], memory_left[node], model[node], 0
    for q in range(vector.size):
        vector[q] = cpu_price[q] * cpu + memory_price[q] * memory
    for place in range(cards[node]):
        left = card_left[node, place]
        if left == CARD_MILLI:
            free += 1
        elif left >= LEVEL_MILLI:
            level = left // LEVEL_MILLI
            for q in range(vector.size):
                vector[q] += card[kind, level, q]
    for q in range(vector.size):
        vector[q] += group[kind, free, q]
    return free


@finite_kernel
def least_point(vector: Float) -> int:
    """The first grid point of the least entry: the node's own prices of CPU and memory."""
    least = 0
    for q in range(vector.size):
        if vector[q] < vector[least]:
            least = q
    return least


@finite_kernel
def value_all(
    fleet: Arrays, grid: Arrays, card: Float, group: Float, vectors: Float, free: Int, value: Float
) -> None:
    """Every node's vector (N, Q), whole cards (N,) and value (N,); equal untouched nodes are valued once."""
    untouched, kind = fleet[5], fleet[6]
    first = np.full(kind.size, NOBODY)
    for node in range(kind.size):
        twin = first[kind[node]] if untouched[node] else NOBODY
        if twin != NOBODY:
            for q in range(vectors.shape[1]):
                vectors[node, q] = vectors[twin, q]
            free[node], value[node] = free[twin], value[twin]
            continue
        free[node] = value_node(fleet, node, grid, card, group, vectors[node])
        value[node] = vectors[node, least_point(vectors[node])]
        if untouched[node]:
            first[kind[node]] = node
