"""What every placement reads of a node, side by side in one cache line, and what a lease changes there.

A placement touches a thousand scattered nodes, so its time is cache misses: one a node instead of one a column.
One pass makes columns of their rows; in NumPy it takes twice as long and leaves views that jump from row to row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]

# Columns of a table of nodes; eight are a cache line.
RANK, MODEL, SITE, ASK, MARKET, STATE, UNUSED = range(7)
COLUMNS = 8
READY = 0
"""Value of STATE in a node that takes new work."""


@kernel
def columns_of(table: Int, nodes: Int, posted: Int) -> Int:
    """Columns of some rows, (COLUMNS, nodes); the last one: what `posted` (markets,) says of their markets."""
    columns = np.empty((COLUMNS, nodes.size), dtype=np.int64)
    for place in range(nodes.size):
        row = table[nodes[place]]
        for column in range(COLUMNS - 1):
            columns[column, place] = row[column]
        columns[COLUMNS - 1, place] = posted[row[MARKET]]
    return columns


@kernel
def take_gpus(table: Int, nodes: Int, gpus: Int) -> Int:
    """Take GPUs of distinct nodes (mutated; negative: give them back); what can then be placed on, (nodes,)."""
    assert nodes.size == gpus.size
    free = np.empty(nodes.size, dtype=np.int64)
    for place in range(nodes.size):
        row = table[nodes[place]]
        row[UNUSED] -= gpus[place]
        free[place] = row[UNUSED] if row[STATE] == READY else 0
    return free
