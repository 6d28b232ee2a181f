"""What the bids of shapes pay for what is left of a node.

A node's vector is α·cpu + β·memory + Σ card + group over the price grid, from `solvers.sharing.tables`; its value
V is the least entry.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.fleet import CARD_MILLI
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.tables import LEVEL_MILLI, Float

NOBODY = -1


def empty_values(nodes: int, points: int) -> Arrays:
    """(vector (N, Q), whole cards (N,), value (N,), its grid point (N,), milli left on the fullest card (N,))."""
    ints = (np.zeros(nodes, dtype=np.int64) for _ in range(3))
    return np.zeros((nodes, points)), next(ints), np.zeros(nodes), next(ints), next(ints)


@finite_kernel
def value_node(fleet: Arrays, node: int, grid: Arrays, card: Float, group: Float, valued: Arrays) -> None:
    """Write what `valued` has of one node."""
    cpu_left, memory_left, card_left, cards, model = fleet[:5]
    vectors, of_free, value, least, of_most = valued
    cpu_price, memory_price = grid
    vector, cpu, memory = vectors[node], cpu_left[node], memory_left[node]
    kind, free, most = model[node], 0, 0
    for q in range(vector.size):
        vector[q] = cpu_price[q] * cpu + memory_price[q] * memory
    for place in range(cards[node]):
        left = card_left[node, place]
        most = max(most, left)
        if left == CARD_MILLI:
            free += 1
        elif left >= LEVEL_MILLI:
            level = left // LEVEL_MILLI
            for q in range(vector.size):
                vector[q] += card[kind, level, q]
    for q in range(vector.size):
        vector[q] += group[kind, free, q]
    point = least_point(vector)
    of_free[node], value[node], least[node], of_most[node] = free, vector[point], point, most


@finite_kernel
def least_point(vector: Float) -> int:
    """The first grid point of the least entry: the node's own prices of CPU and memory. No entry is NaN."""
    least = np.inf
    for q in range(vector.size):
        least = min(least, vector[q])
    point = 0
    while vector[point] != least:
        point += 1
    return point


@finite_kernel
def value_all(fleet: Arrays, grid: Arrays, card: Float, group: Float, valued: Arrays) -> None:
    """Value every node; equal untouched nodes are valued once."""
    untouched, kind = fleet[5], fleet[6]
    vectors, free, value, least, most = valued
    first = np.full(kind.size, NOBODY)
    for node in range(kind.size):
        twin = first[kind[node]] if untouched[node] else NOBODY
        if twin != NOBODY:
            for q in range(vectors.shape[1]):
                vectors[node, q] = vectors[twin, q]
            free[node], value[node], least[node], most[node] = free[twin], value[twin], least[twin], most[twin]
            continue
        value_node(fleet, node, grid, card, group, valued)
        if untouched[node]:
            first[kind[node]] = node
