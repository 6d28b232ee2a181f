"""The most GPUs that can be taken together: cheapest first, per group, within shares and an average price.

A group is a set of nodes that one cluster may use (one model, one fabric, or all). Taking cheapest first is
optimal for the count: a supplier's share limits each supplier apart, and the average price of the first n GPUs
only grows with n, so the longest affordable prefix is the most.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel
from solvers.pools import END, START

Int = NDArray[np.int64]
NO_LIMIT = -1


@kernel
def most_by_group(
    order: Int,
    free: Int,
    g: int,
    group: Int,
    groups: int,
    supplier: Int,
    suppliers: int,
    share: int,
    price: Int,
    cap: int,
    taken: Int,
) -> Int:
    """The most GPUs of each group, (groups,), in whole replicas of `g`.

    `order`: nodes to consider, under a `cap` cheapest first; the other arrays are by node. `group` -1: in no
    group. `share`: most GPUs of one supplier, `cap`: highest average price in micro-USD, or NO_LIMIT. Unless it is
    empty, `taken` (order,) is written at the nodes that give something.
    """
    counts = np.zeros(groups, dtype=np.int64)
    excess = np.zeros(groups, dtype=np.int64)
    closed = np.zeros(groups, dtype=np.bool_)
    given = np.zeros((groups, suppliers if share != NO_LIMIT else 0), dtype=np.int64)
    for place, node in enumerate(order):
        own = group[node]
        if own < 0 or closed[own]:
            continue
        gpus = free[node] // g * g
        if share != NO_LIMIT:
            gpus = min(gpus, (share - given[own, supplier[node]]) // g * g)
        if cap != NO_LIMIT:
            over = price[node] - cap
            if excess[own] + gpus * over > 0:
                gpus = -excess[own] // over // g * g
                closed[own] = True
            excess[own] += gpus * over
        if gpus > 0:
            if share != NO_LIMIT:
                given[own, supplier[node]] += gpus
            counts[own] += gpus
            if taken.size > 0:
                taken[place] = gpus
    return counts


@kernel
def whole_of_pools(table: Int, free: Int, g: int) -> Int:
    """GPUs of each pool that replicas of `g` can have, (pools,)."""
    whole = np.zeros(table.shape[0], dtype=np.int64)
    for pool in range(whole.size):
        for slot in range(table[pool, START], table[pool, END]):
            whole[pool] += free[slot] // g * g
    return whole
