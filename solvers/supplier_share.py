"""A level under a supplier limit: how much each supplier gives, so that few idle nodes break.

A supplier whose share is exhausted in this level gives exactly its share; in the last level the suppliers'
parts are chosen. What a supplier gives with b broken nodes is concave in b (first what breaks nothing, then its
largest imperfect nodes, or one perfect node that fills any gap): the largest step each time needs fewest nodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.fill import FRAGMENT, IMPERFECT, PERFECT, choose_sizes, fill
from solvers.kernel import kernel

Int = NDArray[np.int64]


@kernel
def take_with_limits(
    holds: Int, kind: Int, merit: Int, supplier: Int, given: Int, cap: int, wanted: int, take: Int
) -> int:
    """One level under a supplier limit; returns the replicas taken.

    `given` (suppliers,) replicas each supplier gave so far, mutated. `take` is written.
    """
    members = np.argsort(supplier, kind="mergesort")
    boundary = np.ones(members.size + 1, dtype=np.bool_)
    for place in range(1, members.size):
        boundary[place] = supplier[members[place]] != supplier[members[place - 1]]
    group_start = np.flatnonzero(boundary)
    limit = np.empty(group_start.size - 1, dtype=np.int64)
    for group in range(limit.size):
        own = members[group_start[group] : group_start[group + 1]]
        limit[group] = min(holds[own].sum(), cap - given[supplier[own[0]]])
    last = limit.sum() >= wanted
    quota = _apportion(holds, kind, group_start, members, limit, wanted) if last else limit
    for group in range(limit.size):
        own = members[group_start[group] : group_start[group + 1]]
        own_take = np.zeros(own.size, dtype=np.int64)
        fill(holds[own], kind[own], merit[own], quota[group], own_take)
        take[own] = own_take
        given[supplier[own[0]]] += quota[group]
    return int(quota.sum())


@kernel
def _apportion(holds: Int, kind: Int, group_start: Int, members: Int, limit: Int, wanted: int) -> Int:
    """Replicas each supplier gives in the last level, so that fewest idle nodes break (one more at most).

    First what breaks nothing; then, while that is too little, the largest step that one more broken node buys.
    """
    groups = limit.size
    quota = np.zeros(groups, dtype=np.int64)
    unbroken = np.zeros(groups, dtype=np.int64)
    for group in range(groups):
        own = members[group_start[group] : group_start[group + 1]]
        quota[group], unbroken[group] = _most_unbroken(holds, kind, own, limit[group])
    left = wanted - quota.sum()
    for group in range(groups):
        if left < 0:
            back = min(-left, quota[group])
            quota[group] -= back
            left += back
    used = np.zeros(groups, dtype=np.int64)
    while left > 0:
        best, best_step = 0, 0
        for group in range(groups):
            own = members[group_start[group] : group_start[group + 1]]
            step = limit[group] - quota[group]
            if unbroken[group] < limit[group]:
                step = min(step, _nth_imperfect(holds, kind, own, used[group]))
            if step > best_step:
                best, best_step = group, step
        quota[best] += min(best_step, left)
        left -= min(best_step, left)
        used[best] += 1
    return quota


@kernel
def _most_unbroken(holds: Int, kind: Int, members: Int, limit: int) -> tuple[int, int]:
    """(most replicas up to `limit` that break nothing, replicas that fragments and perfect nodes hold)."""
    fragments, perfect, largest = 0, 0, 0
    for member in members:
        if kind[member] == FRAGMENT:
            fragments += holds[member]
        elif kind[member] == PERFECT:
            perfect += holds[member]
            largest = max(largest, holds[member])
    if fragments + perfect <= limit or fragments >= limit:
        return min(limit, fragments + perfect), fragments + perfect
    count = np.zeros(largest + 1, dtype=np.int64)
    for member in members:
        if kind[member] == PERFECT:
            count[holds[member]] += 1
    for total in range(limit, fragments, -1):  # the answer is within one node of the limit
        chosen = np.zeros(largest + 1, dtype=np.int64)
        if choose_sizes(count, total - fragments, total, chosen):
            return total, fragments + perfect
    return fragments, fragments + perfect


@kernel
def _nth_imperfect(holds: Int, kind: Int, members: Int, n: int) -> int:
    """Replicas that the n-th largest imperfect node of a group holds; 0 past the last."""
    sizes = np.sort(holds[members][kind[members] == IMPERFECT])
    return sizes[sizes.size - 1 - n] if n < sizes.size else 0
