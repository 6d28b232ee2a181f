"""Many gangs that differ in size only, placed one after another: each finds taken what those before it took.

The answer equals placing them one by one with `Placer.place` and taking each placement in between; it is one call,
so that what a call costs (a tuple of forty arrays, say) is paid once. While a gang is placed the ones before it
stand in `free` and in the histogram of the pools that are read; in the end all is given back: nothing is changed.

What a walk finds out about a pool stands as long as no gang takes of it: it is kept from gang to gang, and only
the pools that a gang took of are looked at again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import BASE, HISTOGRAM, MARKET, POSTED
from solvers.walk import NO_LIMIT, UNKNOWN, best_of

Int = NDArray[np.int64]


@kernel
def place_in_turn(
    supply: Arrays,
    filters: Arrays,
    work: Arrays,
    node: Int,
    listed: Int,
    first: Int,
    last: Int,
    g: int,
    replicas: Int,
    most: int,
) -> tuple[Int, Int, Int, Int, Int, Int, Int]:
    """Place gangs of `replicas` (gangs,) times `g` GPUs in turn, until one finds no place.

    Arguments as in `solvers.walk.best_of`; `node`: of each slot. Returns the columns of
    `solvers.placement.Gangs`.
    """
    known = np.full(listed.size, UNKNOWN, dtype=np.int64)
    place_of = np.empty(supply[0].shape[0], dtype=np.int64)
    for option in range(first.size):
        for place in range(first[option], last[option]):
            place_of[listed[place]] = place
    sizes = np.zeros((replicas.size, 3), dtype=np.int64)
    room = int(replicas.sum())
    slots, gpus = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    gangs, end = 0, 0
    for gang in range(replicas.size):
        best, rate, broken, own, take = best_of(
            supply, filters, work, listed, first, last, g, replicas[gang], NO_LIMIT, most, known
        )
        if best < 0:
            break
        begin = end
        for place in np.argsort(supply[7][own]):
            slots[end], gpus[end] = own[place], take[place] * g
            known[place_of[supply[11][own[place]]]] = UNKNOWN
            end += 1
        take_slots(supply, slots[begin:end], gpus[begin:end], 1)
        sizes[gang, 0], sizes[gang, 1], sizes[gang, 2] = rate, broken, end - begin
        gangs += 1
    take_slots(supply, slots[:end], gpus[:end], -1)
    nodes, prices, market = np.empty_like(gpus[:end]), np.empty_like(gpus[:end]), np.empty_like(gpus[:end])
    for place in range(end):
        row = supply[0][supply[11][slots[place]]]
        nodes[place], market[place] = node[slots[place]], row[MARKET]
        prices[place] = max(supply[3][slots[place]], row[POSTED])
    sizes = sizes[:gangs]
    return sizes[:, 0].copy(), sizes[:, 1].copy(), sizes[:, 2].copy(), nodes, gpus[:end].copy(), prices, market


@kernel
def take_slots(supply: Arrays, slots: Int, gpus: Int, sign: int) -> None:
    """Take GPUs of slots (sign 1), or give them back (-1), in `free` and the histogram."""
    table, free, histogram, pool_of = supply[0], supply[5], supply[9], supply[11]
    for place in range(slots.size):
        slot = slots[place]
        row, now = table[pool_of[slot]], free[slot] - sign * gpus[place]
        if slot < row[BASE]:
            histogram[row[HISTOGRAM] + free[slot]] -= 1
            histogram[row[HISTOGRAM] + now] += 1
        free[slot] = now
