"""Many gangs that differ in size only, placed one after another: each finds taken what those before it took.

The answer equals placing them one by one with `Placer.place` and taking each placement in between; it is one call,
so that what a call costs (a tuple of forty arrays, say) is paid once. While a gang is placed the ones before it
stand in `free` and in the histogram of the pools that are read; in the end all is given back: nothing is changed.

Pools that no gang can use (they break a filter, or hold no replica) have no effect on a walk but the time to look at
them. What is used up stays so, as nothing is given back before the end: such pools are left out of what later gangs
look at, the cheapest ones before the first gang, the others once they are used up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import BASE, HISTOGRAM, MARKET, POSTED
from solvers.runs import NO_PRICE, admit
from solvers.walk import NO_LIMIT, best_of

Int = NDArray[np.int64]
JUDGED_PER_GANG = 2
"""Of each alternative, pools that are looked at beforehand: no more work than they may save."""


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
    judged = JUDGED_PER_GANG * replicas.size
    options, first, last = usable(supply, filters, work, listed, first, last, g, judged)
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
    nodes, prices, market = np.empty(end, dtype=np.int64), np.empty(end, dtype=np.int64), np.empty(end, dtype=np.int64)
    for place in range(end):
        row = supply[0][supply[11][slots[place]]]
        nodes[place], market[place] = node[slots[place]], row[MARKET]
        prices[place] = max(supply[3][slots[place]], row[POSTED])
    sizes = sizes[:gangs]
    return sizes[:, 0].copy(), sizes[:, 1].copy(), sizes[:, 2].copy(), nodes, gpus[:end].copy(), prices, market


@kernel
def usable(
    supply: Arrays, filters: Arrays, work: Arrays, listed: Int, first: Int, last: Int, g: int, judged: int
) -> tuple[Int, Int, Int]:
    """The alternatives without those of their first `judged` pools that cannot hold a replica: (listed, first,
    last), all of them new."""
    room = int((last - first).sum())
    kept, begin, end = np.empty(room, dtype=np.int64), np.empty_like(first), np.empty_like(last)
    fits_for(work, g)
    count = 0
    for option in range(first.size):
        begin[option] = count
        for place in range(first[option], last[option]):
            unknown = place >= first[option] + judged
            if unknown or admit(supply, filters, listed[place], 0, g, work[10], work[:5]) != NO_PRICE:
                kept[count] = listed[place]
                count += 1
        end[option] = count
    return kept[:count], begin, end


@kernel
def drop_used_up(
    supply: Arrays, filters: Arrays, work: Arrays, listed: Int, first: Int, last: Int, g: int, slots: Int
) -> None:
    """Take out of the alternatives, in place, the pools of some slots that hold no replica any more."""
    previous = -1
    for slot in slots:
        pool = supply[11][slot]
        if pool == previous or admit(supply, filters, pool, 0, g, work[10], work[:5]) != NO_PRICE:
            previous = pool
            continue
        previous = pool
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
