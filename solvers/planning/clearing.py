"""Prices that clear the relaxed problem, by divide and conquer over price levels.

Relax the gangs: any fraction may be served, from any of its rows. A row sells its slots at their asks, a shape
buys for its gangs at their values, and nothing lies between them. The dual of this transport problem is

    min Σ_s surplus_s(q_s) + Σ_r surplus_r(π_r)   subject to   q_s <= π_r for every row r of shape s,

an isotonic regression on a bipartite order. At a price level λ let shapes demand what is worth more than λ and
rows supply what is asked for less. A maximum flow between them leaves some demand unmet; what the unmet demand
can reach in the residual graph has a price above λ, everything else one of at most λ (a minimum cut). Repeating
this inside both parts halves the interval of every price: with L levels a price is known to a 2^-L part of the
logarithmic range. Levels are run for all groups at once, since edges between groups with different intervals no
longer bind. (Hochbaum and Queyranne, Minimizing a convex cost closure set, 2003, give the principle.)

Each level costs a few scans of the pairs that still bind. Flow is kept in linked lists per row, which stay short.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Int32 = NDArray[np.int32]

LEVELS = 10


def clearing_prices(
    first: Int,
    rows: Int32,
    gang_shape: Int,
    gang_gpus: Int,
    gang_value: Int,
    start: Int,
    ask: Int,
    supply_before: Int,
    levels: int = LEVELS,
) -> Float:
    """Price of each row, (rows,), micro-USD per GPU-hour, of the relaxed market.

    `first`, `rows`: the rows of each shape. Gangs: shape, GPUs, value (gangs,). Row r has the slots
    [start[r], start[r + 1]) by ask; `supply_before` (slots + 1,): running sum of their capacities.
    """
    count = start.size - 1
    if count == 0:
        return np.empty(0)
    low, high = np.log(max(int(ask.min()), 1)), np.log(max(int(gang_value.max(initial=1)), int(ask.min())) + 1.0)
    shape_key, row_key = np.zeros(first.size - 1, dtype=np.int64), np.zeros(count, dtype=np.int64)
    begin, end, active = first[:-1].copy(), first[1:].copy(), rows.copy()
    order = np.argsort(np.diff(first), kind="stable")
    for level in range(levels):
        step = (high - low) / (1 << (level + 1))
        split(
            begin, end, active, order, shape_key, row_key, low, step,
            gang_shape, gang_gpus, gang_value, start, ask, supply_before,
        )  # fmt: skip
    prices: Float = np.exp(low + (row_key + 0.5) * (high - low) / (1 << levels))
    prices[row_key == 0] = 0.0  # nobody competes: the ask decides
    return prices


@kernel
def split(
    begin: Int,
    end: Int,
    active: Int32,
    order: Int,
    shape_key: Int,
    row_key: Int,
    low: float,
    step: float,
    gang_shape: Int,
    gang_gpus: Int,
    gang_value: Int,
    start: Int,
    ask: Int,
    supply_before: Int,
) -> int:
    """Halve the interval of every shape and row; `begin`, `end`, `active` and the keys are mutated.

    Key k stands for the logarithmic prices [low + 2k·step, low + 2(k + 1)·step); it becomes 2k or 2k + 1.
    """
    shapes, rows = shape_key.size, row_key.size
    unmet = np.zeros(shapes, dtype=np.int64)
    for gang in range(gang_shape.size):
        shape = gang_shape[gang]
        if gang_value[gang] > np.exp(low + (2 * shape_key[shape] + 1) * step):
            unmet[shape] += gang_gpus[gang]
    unsold = np.empty(rows, dtype=np.int64)
    for row in range(rows):
        level = np.exp(low + (2 * row_key[row] + 1) * step)
        slot = start[row] + np.searchsorted(ask[start[row] : start[row + 1]], level)
        unsold[row] = supply_before[slot] - supply_before[start[row]]
    # Flow entries: shape, amount and the next entry of the same row.
    head = np.full(rows, -1, dtype=np.int32)
    size = 0
    entry_shape = np.empty(4 * (shapes + rows) + 1024, dtype=np.int32)
    entry_next = np.empty(entry_shape.size, dtype=np.int32)
    amount = np.empty(entry_shape.size, dtype=np.int64)
    for shape in order:
        at = begin[shape]
        for pair in range(begin[shape], end[shape]):
            row = active[pair]
            if row_key[row] != shape_key[shape]:
                continue
            active[at] = row
            at += 1
            give = min(unmet[shape], unsold[row])
            if give > 0:
                unmet[shape] -= give
                unsold[row] -= give
                entry_shape[size], amount[size], entry_next[size] = shape, give, head[row]
                head[row] = size
                size += 1
        end[shape] = at
    # Dinic's algorithm: breadth-first levels, then a blocking flow with current arcs.
    shape_level, row_level = np.empty(shapes, dtype=np.int32), np.empty(rows, dtype=np.int32)
    arc, entry_at = np.empty(shapes, dtype=np.int64), np.empty(rows, dtype=np.int32)
    queue = np.empty(shapes, dtype=np.int32)
    path_shape, path_row = np.empty(shapes + 1, dtype=np.int32), np.empty(shapes + 1, dtype=np.int32)
    phases = 0
    while True:
        phases += 1
        shape_level[:] = -1
        row_level[:] = -1
        tail = 0
        for shape in range(shapes):
            if unmet[shape] > 0 and begin[shape] < end[shape]:
                queue[tail] = shape
                tail += 1
                shape_level[shape] = 0
        sinks, at, deepest = 0, 0, np.int32(2147483647)
        while at < tail:
            shape = queue[at]
            at += 1
            level = shape_level[shape] + 1
            if level > deepest:
                break
            for pair in range(begin[shape], end[shape]):
                row = active[pair]
                if row_level[row] >= 0:
                    continue
                row_level[row] = level
                if unsold[row] > 0:
                    sinks += 1
                    deepest = level
                entry, last = head[row], -1
                while entry >= 0:
                    if amount[entry] == 0:  # drop spent entries
                        if last < 0:
                            head[row] = entry_next[entry]
                        else:
                            entry_next[last] = entry_next[entry]
                    else:
                        other = entry_shape[entry]
                        if shape_level[other] < 0:
                            shape_level[other] = level + 1
                            queue[tail] = other
                            tail += 1
                        last = entry
                    entry = entry_next[entry]
        if sinks == 0:
            break
        arc[:] = begin
        entry_at[:] = head
        for root in range(shapes):
            while unmet[root] > 0 and shape_level[root] == 0:
                # Walk down the levels to a row with supply; `path_row[i]` was entered from `path_shape[i]`.
                depth, shape, found = 0, root, False
                while True:
                    path_shape[depth] = shape
                    moved = False
                    while arc[shape] < end[shape]:
                        row = active[arc[shape]]
                        if row_level[row] == shape_level[shape] + 1:
                            if unsold[row] > 0:
                                path_row[depth], found = row, True
                                break
                            while entry_at[row] >= 0:
                                entry = entry_at[row]
                                if amount[entry] > 0 and shape_level[entry_shape[entry]] == row_level[row] + 1:
                                    break
                                entry_at[row] = entry_next[entry]
                            if entry_at[row] >= 0:
                                path_row[depth] = row
                                depth += 1
                                shape, moved = entry_shape[entry_at[row]], True
                                break
                        arc[shape] += 1
                    if found:
                        break
                    if not moved:
                        if depth == 0:
                            break
                        depth -= 1  # a dead end: never come here again in this phase
                        entry_at[path_row[depth]] = entry_next[entry_at[path_row[depth]]]
                        shape = path_shape[depth]
                if not found:
                    break
                give = min(unmet[root], unsold[path_row[depth]])
                for i in range(depth):
                    give = min(give, amount[entry_at[path_row[i]]])
                if size + depth + 1 >= entry_shape.size:
                    more = entry_shape.size + depth
                    entry_shape = np.concatenate((entry_shape, np.empty(more, dtype=np.int32)))
                    entry_next = np.concatenate((entry_next, np.empty(more, dtype=np.int32)))
                    amount = np.concatenate((amount, np.empty(more, dtype=np.int64)))
                unmet[root] -= give
                unsold[path_row[depth]] -= give
                for i in range(depth + 1):
                    row = path_row[i]
                    if i < depth:
                        amount[entry_at[row]] -= give
                    entry_shape[size], amount[size], entry_next[size] = path_shape[i], give, head[row]
                    head[row] = size
                    size += 1
    for shape in range(shapes):
        shape_key[shape] = 2 * shape_key[shape] + (shape_level[shape] >= 0)
    for row in range(rows):
        row_key[row] = 2 * row_key[row] + (row_level[row] >= 0)
    return phases
