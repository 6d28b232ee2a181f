"""Runs: the nodes of one pool at one price, and how a walk moves over them.

A pool's first run is its base (all at the posted price, counted by histogram); each later run is a stretch of
slots with the same ask. A *cursor* is the first slot of the run a pool stands at. `run` is a tuple of arrays by
entry of the walk: pool, whether its nodes must be judged one by one, cursor, replicas in fragments, idle nodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.fill import FRAGMENT, IMPERFECT, PERFECT
from solvers.kernel import Arrays, kernel
from solvers.pools import (
    BASE,
    CERTIFICATIONS,
    CONNECTIVITY,
    END,
    FABRIC,
    GPU_COUNT,
    HISTOGRAM,
    INTERCONNECT,
    MIXED,
    POSTED,
    SITE,
    START,
    SUPPLIER,
    TIER,
)

Int = NDArray[np.int64]
NO_PRICE = np.iinfo(np.int64).max
NO, YES, BY_SLOT = range(3)


@kernel
def judge_pool(supply: Arrays, filters: Arrays, pool: int) -> int:
    """NO, YES, or BY_SLOT where the pool's nodes differ in what the filters ask (reliability, supplier)."""
    table, low, high = supply[0], supply[1], supply[2]
    site_ok, supplier_ok, tier, certifications, connectivity, interconnect, fabric, reliability = filters
    row = table[pool]
    if (
        not site_ok[row[SITE]]
        or row[TIER] < tier
        or (row[CERTIFICATIONS] & certifications) != certifications
        or row[CONNECTIVITY] < connectivity
        or row[INTERCONNECT] < interconnect
        or (fabric and row[FABRIC] < 0)
        or high[pool] < reliability
    ):
        return NO
    verdict = BY_SLOT if low[pool] < reliability else YES
    if supplier_ok.size > 0:
        if row[SUPPLIER] == MIXED:
            return BY_SLOT
        if not supplier_ok[row[SUPPLIER]]:
            return NO
    return verdict


@kernel
def passes(supply: Arrays, filters: Arrays, slot: int) -> bool:
    """Whether one slot keeps the filters that pools cannot decide."""
    supplier, reliability = supply[6], supply[8]
    supplier_ok, wanted = filters[1], filters[7]
    if reliability[slot] < wanted:
        return False
    return bool(supplier_ok.size == 0 or supplier_ok[supplier[slot]])


@kernel
def admit(supply: Arrays, filters: Arrays, pool: int, entry: int, g: int, fits: Int, run: Arrays) -> int:
    """Judge a pool and set its cursor to its first run with room; return that run's price, or NO_PRICE."""
    table, left = supply[0], supply[13]
    pools, by_slot, cursor, fragments, idle = run
    if left[pool] < g:  # no more than a bound where CPU, memory or gangs in turn take some away
        return NO_PRICE
    verdict = judge_pool(supply, filters, pool)
    if verdict == NO:
        return NO_PRICE
    pools[entry], by_slot[entry] = pool, verdict == BY_SLOT
    slot = table[pool, START]
    if slot < table[pool, BASE]:
        cursor[entry] = slot
        fragments[entry], idle[entry] = measure(supply, filters, by_slot[entry], pool, slot, g, fits)
        if fragments[entry] + idle[entry] > 0:
            return int(table[pool, POSTED])
    return advance(supply, filters, entry, table[pool, BASE], g, fits, run)


@kernel
def advance(supply: Arrays, filters: Arrays, entry: int, slot: int, g: int, fits: Int, run: Arrays) -> int:
    """Set a pool's cursor to its first run with room from `slot` on; return its price, or NO_PRICE."""
    table, ask = supply[0], supply[3]
    pools, by_slot, cursor, fragments, idle = run
    pool = pools[entry]
    slot = next_run(supply, filters, by_slot[entry], pool, slot, g)
    if slot == table[pool, END]:
        return NO_PRICE
    cursor[entry] = slot
    fragments[entry], idle[entry] = measure(supply, filters, by_slot[entry], pool, slot, g, fits)
    return int(ask[slot])


@kernel
def next_run(supply: Arrays, filters: Arrays, by_slot: bool, pool: int, slot: int, g: int) -> int:
    """First slot from `slot` on, behind the base, that can hold a replica; END if there is none."""
    table, free = supply[0], supply[5]
    end = table[pool, END]
    while slot < end and (free[slot] < g or (by_slot and not passes(supply, filters, slot))):
        slot += 1
    return slot


@kernel
def run_end(supply: Arrays, pool: int, slot: int) -> int:
    """End of the run of slots of one price that starts at `slot`."""
    table, ask = supply[0], supply[3]
    if slot < table[pool, BASE]:
        return int(table[pool, BASE])
    end = slot + 1
    while end < table[pool, END] and ask[end] == ask[slot]:
        end += 1
    return end


@kernel
def measure(
    supply: Arrays, filters: Arrays, by_slot: bool, pool: int, slot: int, g: int, fits: Int
) -> tuple[int, int]:
    """(replicas in fragments, idle nodes) of the run that starts at `slot`; `fits[f]` = f // g."""
    table, free, histogram = supply[0], supply[5], supply[9]
    count = table[pool, GPU_COUNT]
    fragments, idle = 0, 0
    if slot < table[pool, BASE] and not by_slot:
        cell = table[pool, HISTOGRAM]
        for gpus in range(g, count):
            fragments += histogram[cell + gpus] * fits[gpus]
        return fragments, histogram[cell + count] if count >= g else 0
    for other in range(slot, run_end(supply, pool, slot)):
        if free[other] >= g and not (by_slot and not passes(supply, filters, other)):
            if free[other] == count:
                idle += 1
            else:
                fragments += fits[free[other]]
    return fragments, idle


@kernel
def open_run(
    supply: Arrays,
    filters: Arrays,
    by_slot: bool,
    pool: int,
    slot: int,
    g: int,
    fits: Int,
    slots: Int,
    holds: Int,
    kind: Int,
    found: int,
) -> int:
    """Append the useful slots of a run to the candidates; return their new number."""
    table, free = supply[0], supply[5]
    count = table[pool, GPU_COUNT]
    for other in range(slot, run_end(supply, pool, slot)):
        if free[other] < g or (by_slot and not passes(supply, filters, other)):
            continue
        slots[found] = other
        holds[found] = fits[free[other]]
        kind[found] = FRAGMENT if free[other] < count else (PERFECT if count % g == 0 else IMPERFECT)
        found += 1
    return found


@kernel
def count_by_site(supply: Arrays, filters: Arrays, listed: Int, g: int, capacity: Int) -> None:
    """Add to `capacity` (sites,) the replicas that the nodes of the listed pools could take."""
    table, free = supply[0], supply[5]
    for pool in listed:
        verdict = judge_pool(supply, filters, pool)
        if verdict == NO:
            continue
        for slot in range(table[pool, START], table[pool, END]):
            if verdict == YES or passes(supply, filters, slot):
                capacity[table[pool, SITE]] += free[slot] // g
