"""Many gangs that differ in size only, placed one after another: each finds taken what those before it took.

The answer equals placing them one by one with `Placer.place` and taking each placement in between; it is one call,
so that what a call costs (a tuple of forty arrays, say) is paid once. While a gang is placed the ones before it
stand in `free` and in the histogram of the pools that are read; in the end all is given back: nothing is changed.

Pools that no gang can use (they break a filter, or hold no replica) have no effect on a walk but the time to look
at them. What is used up stays so, as nothing is given back before the end: such pools are left out of what later
gangs look at, those before the first that holds one at once, the others when a gang has used them up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import BASE, HISTOGRAM, MARKET, POSTED
from solvers.runs import NO_PRICE, admit
from solvers.walk import NO_LIMIT, best_of

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
    options, first, last = usable(supply, filters, work, listed, first, last, g)
    sizes = np.zeros((replicas.size, 3), dtype=np.int64)
    room = int(replicas.sum())
    slots, gpus = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    gangs, end = 0, 0
    for gang in range(replicas.size):
        best, rate, broken, own, take = best_of(
            supply, filters, work, options, first, last, g, replicas[gang], NO_LIMIT, most
        )
        if best < 0:
            break
        by_id = np.argsort(supply[7][own])
        begin = end
        for place in by_id:
            slots[end], gpus[end] = own[place], take[place] * g
            end += 1
        take_slots(supply, slots[begin:end], gpus[begin:end], 1)
        sizes[gang, 0], sizes[gang, 1], sizes[gang, 2] = rate, broken, end - begin
        gangs += 1
        drop_used_up(supply, filters, work, options, first, last, g, slots[begin:end])
    take_slots(supply, slots[:end], gpus[:end], -1)
    nodes, prices, market = np.empty_like(gpus[:end]), np.empty_like(gpus[:end]), np.empty_like(gpus[:end])
    for place in range(end):
        row = supply[0][supply[11][slots[place]]]
        nodes[place], market[place] = node[slots[place]], row[MARKET]
        prices[place] = max(supply[3][slots[place]], row[POSTED])
    sizes = sizes[:gangs]
    return sizes[:, 0].copy(), sizes[:, 1].copy(), sizes[:, 2].copy(), nodes, gpus[:end].copy(), prices, market


@kernel
def usable(
    supply: Arrays, filters: Arrays, work: Arrays, listed: Int, first: Int, last: Int, g: int
) -> tuple[Int, Int, Int]:
    """The alternatives from their first pool on that can hold a replica: (listed, first, last), all of them new."""
    begin, end = np.empty_like(first), np.empty_like(first)
    kept, count = np.empty(int((last - first).sum()), dtype=np.int64), 0
    fits_for(work, g)
    for option in range(first.size):
        place = first[option]
        while place < last[option] and _is_used_up(supply, filters, work, listed[place], g):
            place += 1
        begin[option] = count
        count += last[option] - place
        end[option] = count
        kept[begin[option] : count] = listed[place : last[option]]
    return kept[:count], begin, end


@kernel
def _is_used_up(supply: Arrays, filters: Arrays, work: Arrays, pool: int, g: int) -> bool:
    """Whether no replica can go to a pool."""
    return bool(admit(supply, filters, pool, 0, g, work[10], work[:5]) == NO_PRICE)


@kernel
def drop_used_up(
    supply: Arrays, filters: Arrays, work: Arrays, listed: Int, first: Int, last: Int, g: int, slots: Int
) -> None:
    """Take out of the alternatives, in place, the pools of some slots that hold no replica any more."""
    free, pool_of = supply[5], supply[11]
    for slot in slots:
        pool = pool_of[slot]
        if free[slot] >= g or not _is_used_up(supply, filters, work, pool, g):
            continue
        for option in range(first.size):
            kept = first[option]
            for place in range(first[option], last[option]):
                if listed[place] != pool:
                    listed[kept] = listed[place]
                    kept += 1
            last[option] = kept


@kernel
def fits_for(work: Arrays, g: int) -> None:
    """What `solvers.runs.admit` reads of the working space: replicas of `g` GPUs that so many GPUs hold."""
    fits = work[10]
    for gpus in range(fits.size):
        fits[gpus] = gpus // g


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
