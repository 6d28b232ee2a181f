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
    place_of = places_of(supply[0].shape[0], listed, first, last)
    sizes, slots, gpus = place_run(
        supply, filters, work, listed, first, last, g, replicas, most, known, place_of, known[:0]
    )
    take_slots(supply, slots, gpus, -1)
    nodes, prices, market = describe_slots(supply, node, slots)
    return sizes[:, 0].copy(), sizes[:, 1].copy(), sizes[:, 2].copy(), nodes, gpus.copy(), prices, market


@kernel
def places_of(pools: int, listed: Int, first: Int, last: Int) -> Int:
    """The place in `listed` of every pool, -1 of those that no option has."""
    place_of = np.full(pools, -1, dtype=np.int64)
    for option in range(first.size):
        for place in range(first[option], last[option]):
            place_of[listed[place]] = place
    return place_of


@kernel
def place_run(
    supply: Arrays,
    filters: Arrays,
    work: Arrays,
    listed: Int,
    first: Int,
    last: Int,
    g: int,
    replicas: Int,
    most: int,
    known: Int,
    place_of: Int,
    touched: Int,
) -> tuple[Int, Int, Int]:
    """The gangs of `place_in_turn`; what they take stays taken.

    `known`, `work`: as an earlier run left them; `touched`: pools that others took of since. Returns rate, idle
    nodes broken and number of nodes of each (gangs, 3), and the slots and GPUs of all.
    """
    for pool in touched:
        if place_of[pool] >= 0:
            known[place_of[pool]] = UNKNOWN
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
    return sizes[:gangs], slots[:end], gpus[:end]


@kernel
def describe_slots(supply: Arrays, node: Int, slots: Int) -> tuple[Int, Int, Int]:
    """Node, price and market of each slot."""
    nodes, prices, market = np.empty_like(slots), np.empty_like(slots), np.empty_like(slots)
    for place in range(slots.size):
        row = supply[0][supply[11][slots[place]]]
        nodes[place], market[place] = node[slots[place]], row[MARKET]
        prices[place] = max(supply[3][slots[place]], row[POSTED])
    return nodes, prices, market


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


@kernel
def move_cells(table: Int, histogram: Int, pool_of: Int, free: Int, slots: Int, gpus: Int, sign: int) -> None:
    """Let the histogram of other prices follow what `take_slots` has just done; each slot at most once."""
    for place in range(slots.size):
        row, now = table[pool_of[slots[place]]], free[slots[place]]
        if slots[place] < row[BASE]:
            histogram[row[HISTOGRAM] + now + sign * gpus[place]] -= 1
            histogram[row[HISTOGRAM] + now] += 1
