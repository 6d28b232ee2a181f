"""The pools as a shape sees them that needs CPU or memory beside its GPUs.

A node has room for min(free GPUs // g, CPU // c, memory // m) replicas. `free` and `histogram` are made anew for
the request, over the nodes of its models only, and everything else (walk, fill, close sites) reads them as it
reads those of the pools. So a request that names neither pays nothing, and nothing has to be kept folded by what
is left of CPU. An idle node counts as idle if the shape can use all its GPUs: elsewhere it is left in part anyhow.

Cost: O(nodes of the models), 2 to 3 ns each (docs/placement.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import BASE, END, GPU_COUNT, HISTOGRAM, START, Pools
from solvers.priced_pools import PricedPools
from solvers.spare import Spare

Int = NDArray[np.int64]


class Seen:
    """Working space for one fleet, used again by each request."""

    def __init__(self, slots: int, cells: int) -> None:
        self._free, self._histogram = np.zeros(slots, dtype=np.int64), np.zeros(cells, dtype=np.int64)

    def supply(
        self, supply: Arrays, pools: Pools | PricedPools, spare: Spare, models: Int, size: tuple[int, int, int]
    ) -> Arrays:
        """`supply` of some pools as replicas of a size (GPUs, CPU, memory) see it; right until it is next called.

        Only the pools of `models` are made.
        """
        for model in models.tolist():
            first, last = pools.model_start[model : model + 2].tolist()
            see(
                pools.table, first, last, pools.node, pools.free, spare.cpu_milli, spare.memory_mib, *size,
                self._free, self._histogram,
            )  # fmt: skip
        return *supply[:5], self._free, *supply[6:9], self._histogram, *supply[10:]


@kernel
def see(
    table: Int,
    first: int,
    last: int,
    node: Int,
    free: Int,
    cpu_left: Int,
    memory_left: Int,
    g: int,
    cpu: int,
    memory: int,
    out_free: Int,
    out_histogram: Int,
) -> None:
    """Write `out_free` (slots,) and `out_histogram` of pools [first, last). `cpu`, `memory` of a replica, or 0."""
    for pool in range(first, last):
        cell, base = table[pool, HISTOGRAM], table[pool, BASE]
        for gpus in range(table[pool, GPU_COUNT] + 1):
            out_histogram[cell + gpus] = 0
        for slot in range(table[pool, START], table[pool, END]):
            gpus = free[slot]
            if gpus >= g:
                own, room = node[slot], gpus // g
                if cpu_left[own] < room * cpu:
                    room = cpu_left[own] // cpu
                    gpus = room * g
                if memory_left[own] < room * memory:
                    gpus = memory_left[own] // memory * g
            out_free[slot] = gpus
            if slot < base:
                out_histogram[cell + gpus] += 1
