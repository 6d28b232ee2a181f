"""The forest of a market, climbed from a refused gang to the first component that is a violator.

Sums over components are differences of two prefix sums in Fenwick trees, which gangs (worth at least as much as
the refused one) and free GPUs (that ask more than it bids) enter by falling bid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.nest import Market, Nest

Int = NDArray[np.int64]


def climb(market: Market, nest: Nest, refused: Int) -> tuple[Int, Int]:
    """For each refused gang, by falling value: the first component that is short, and what exists there.

    (-1, 0) if there is none; components are named by their node.
    """
    shapes, rows = market.shapes, market.rows
    node_of_row = np.full(market.capacity.size, -1, dtype=np.int64)
    node_of_row[nest.rows] = np.repeat(np.arange(nest.end.size), np.diff(nest.first_row))
    capacity_before = np.append(0, np.cumsum(market.capacity[nest.rows]))[nest.first_row]
    free = np.diff(market.free_before)
    slots = np.flatnonzero((free > 0) & (node_of_row[rows.row_of] >= 0))
    slots = slots[np.argsort(-rows.ask[slots], kind="stable")]
    gangs = nest.gangs[np.argsort(-market.value[nest.gangs], kind="stable")]
    wanted = nest.node_of_shape[shapes.of_gang[gangs]], market.value[gangs], market.demand[gangs]
    dear = node_of_row[rows.row_of[slots]], rows.ask[slots], free[slots]
    start = nest.node_of_shape[shapes.of_gang[refused]]
    return first_short(market.value[refused], start, nest.parent, nest.end, capacity_before, wanted, dear)


@kernel
def first_short(
    value: Int, start: Int, parent: Int, end: Int, capacity_before: Int, wanted: Arrays, dear: Arrays
) -> tuple[Int, Int]:
    """See `climb`. `wanted`, `dear`: node, value or ask, GPUs of gangs and of free slots, the dearest first."""
    nodes, existing = np.full(start.size, -1, dtype=np.int64), np.zeros(start.size, dtype=np.int64)
    wanted_tree, dear_tree = np.zeros(end.size + 1, dtype=np.int64), np.zeros(end.size + 1, dtype=np.int64)
    next_gang, next_dear = 0, 0
    for i in range(start.size):
        while next_gang < wanted[0].size and wanted[1][next_gang] >= value[i]:
            add_at(wanted_tree, wanted[0][next_gang], wanted[2][next_gang])
            next_gang += 1
        while next_dear < dear[0].size and dear[1][next_dear] > value[i]:
            add_at(dear_tree, dear[0][next_dear], dear[2][next_dear])
            next_dear += 1
        node = start[i]
        while node >= 0 and nodes[i] < 0:
            want = below(wanted_tree, end[node]) - below(wanted_tree, node)
            exist = capacity_before[end[node]] - capacity_before[node]
            exist -= below(dear_tree, end[node]) - below(dear_tree, node)
            if want > exist:
                nodes[i], existing[i] = node, exist
            node = parent[node]
    return nodes, existing


@kernel
def add_at(tree: Int, place: int, amount: int) -> None:
    """Add to one place of a Fenwick tree (places + 1,)."""
    at = place + 1
    while at < tree.size:
        tree[at] += amount
        at += at & -at


@kernel
def below(tree: Int, place: int) -> int:
    """The sum of all places before `place`."""
    total = 0
    at = place
    while at > 0:
        total += tree[at]
        at -= at & -at
    return total
