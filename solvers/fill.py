"""Choosing among nodes of equal price: take q replicas and break as few idle nodes as possible.

All candidates cost the same, so the choice is free. An *idle* node has all its GPUs free; it is *broken* if
it ends partly used. Candidates are of three kinds:

- fragments: not idle; any number of replicas may be taken and nothing is broken;
- perfect: idle, and its GPUs are a multiple of the replica's: taken whole or not at all, nothing is broken;
- imperfect: idle, but never used up by whole replicas: one replica already breaks it.

Let N be the replicas that fragments hold and P those that perfect nodes hold. If N + P >= q, zero or one node
is broken; zero exactly if some subset of perfect nodes sums to a T in [q - N, q] (a bounded subset sum). Else
all fragments and perfect nodes are taken, and imperfect nodes cover the rest, largest first: no smaller
number of nodes can. Both cases are exact. Among equals, merit order (ask, -reliability, node id) decides:
greedily, so the sums of asks and reliabilities are near their best and always deterministic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]

FRAGMENT, PERFECT, IMPERFECT = 0, 1, 2
SUBSET_WINDOW = 1 << 14
"""Subset sums are searched up to this many replicas; the rest is taken in whole perfect nodes beforehand."""


@kernel
def fill(holds: Int, kind: Int, merit: Int, wanted: int, take: Int) -> int:
    """Take `wanted` replicas from candidates and return the number of idle nodes broken, the least possible.

    `holds` (candidates,): replicas each can take; `kind`, `merit` likewise; Σ holds >= wanted. `take` is written.
    """
    order = np.argsort(merit)
    left = _take_unbroken(holds, kind, order, wanted, take)
    if left == 0:
        return 0
    unused_perfect = False
    for candidate in order:
        unused_perfect |= kind[candidate] == PERFECT and take[candidate] == 0
    if not unused_perfect:
        return _cover_with_imperfect(holds, kind, merit, left, take)
    if _take_by_subset(holds, kind, order, wanted, take):
        return 0
    _take_unbroken(holds, kind, order, wanted, take)
    return _break_one(holds, kind, order, left, take)


@kernel
def _take_unbroken(holds: Int, kind: Int, order: Int, wanted: int, take: Int) -> int:
    """Take in merit order whatever breaks nothing; return what is still wanted."""
    take[:] = 0
    for candidate in order:
        if kind[candidate] == FRAGMENT:
            take[candidate] = min(holds[candidate], wanted)
        elif kind[candidate] == PERFECT and holds[candidate] <= wanted:
            take[candidate] = holds[candidate]
        wanted -= take[candidate]
    return wanted


@kernel
def _break_one(holds: Int, kind: Int, order: Int, left: int, take: Int) -> int:
    """Break the first idle node that can take all that is left; a perfect unused one always can."""
    for candidate in order:
        if kind[candidate] != FRAGMENT and take[candidate] == 0 and holds[candidate] >= left:
            take[candidate] = left
            return 1
    return 0


@kernel
def _cover_with_imperfect(holds: Int, kind: Int, merit: Int, left: int, take: Int) -> int:
    """Cover what is left with imperfect nodes, largest first, then by merit; return how many."""
    imperfect = np.flatnonzero(kind == IMPERFECT)
    imperfect = imperfect[np.argsort(merit[imperfect])]
    imperfect = imperfect[np.argsort(-holds[imperfect], kind="mergesort")]
    broken = 0
    for candidate in imperfect:
        if left == 0:
            break
        take[candidate] = min(holds[candidate], left)
        left -= take[candidate]
        broken += 1
    return broken


@kernel
def _take_by_subset(holds: Int, kind: Int, order: Int, wanted: int, take: Int) -> bool:
    """Take perfect nodes summing to the least T in [wanted - N, wanted], then fragments; False if none does."""
    fragments, largest = 0, 0
    for candidate in order:
        if kind[candidate] == FRAGMENT:
            fragments += holds[candidate]
        elif kind[candidate] == PERFECT:
            largest = max(largest, holds[candidate])
    count = np.zeros(largest + 1, dtype=np.int64)
    for candidate in order:
        if kind[candidate] == PERFECT:
            count[holds[candidate]] += 1
    chosen = np.zeros(largest + 1, dtype=np.int64)
    target = wanted
    for size in range(largest, 0, -1):
        while target > SUBSET_WINDOW and chosen[size] < count[size]:
            chosen[size] += 1
            target -= size
    if not choose_sizes(count, target - fragments, target, chosen):
        return False
    take[:] = 0
    left = wanted
    for candidate in order:
        size = holds[candidate]
        if kind[candidate] == PERFECT and chosen[size] > 0:
            chosen[size] -= 1
            take[candidate] = size
            left -= size
    for candidate in order:
        if kind[candidate] == FRAGMENT:
            take[candidate] = min(holds[candidate], left)
            left -= take[candidate]
    return True


@kernel
def choose_sizes(count: Int, low: int, high: int, chosen: Int) -> bool:
    """Bounded subset sum: add to `chosen` per size what sums to the least T in [low, high]; False if none does.

    `count[size]` pieces of each size exist, of which `chosen[size]` are taken already. O(sizes × high).
    """
    if high < 0:
        return False
    unreached = -1
    used = np.full(high + 1, unreached, dtype=np.int64)
    last = np.zeros(high + 1, dtype=np.int64)  # the size added last to reach a sum
    reached = np.zeros(high + 1, dtype=np.bool_)
    reached[0] = True
    for size in range(count.size - 1, 0, -1):
        spare = count[size] - chosen[size]
        if spare <= 0:
            continue
        for total in range(high + 1):
            if reached[total]:
                used[total] = 0
            elif total >= size and used[total - size] != unreached and used[total - size] < spare:
                used[total] = used[total - size] + 1
                last[total] = size
            else:
                used[total] = unreached
        for total in range(high + 1):
            reached[total] |= used[total] != unreached
    for total in range(max(low, 0), high + 1):
        if reached[total]:
            while total > 0:
                chosen[last[total]] += 1
                total -= last[total]
            return True
    return False
