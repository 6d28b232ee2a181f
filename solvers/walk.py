"""The walk: the cheapest gang of replicas, in price order over pools. Exact in cost.

Replicas are all of g GPUs and a node's room for them is independent of where the others go; the only other
limits are the gang's size and, with a supplier share, an upper limit per supplier. Nodes within suppliers
within the gang are a laminar family, its independent sets a matroid, so taking the cheapest replica that still
fits, over and over, is optimal (Edmonds 1971). Everything non-matroidal (one model, one fabric, mutually close
sites) is decided outside, by trying alternatives; this module also tries a list of alternatives in one call.

Prices form levels: a pool's base costs its posted price, slots behind it cost their asks. Levels below the
last are taken whole (per supplier: up to its limit); only the last leaves a choice, which `solvers.fill` makes.
Pools come in the order of their least price (`Pools.by_price`), so the walk looks at no more of them than it
needs; of a large last level only enough candidates are opened. Looking stops when no idle node need be broken, or
`PATIENCE` pools after it is clear that at most one must: hence at most one more than necessary, whatever the size.

Cost: O(pools looked at + nodes taken · log pools). Kernels create no Python object.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from solvers.fill import FRAGMENT, IMPERFECT, PERFECT, choose_sizes, fill
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
Flags = NDArray[np.bool_]
NO_LIMIT = -1
NO_PRICE = np.iinfo(np.int64).max
NO, YES, BY_SLOT = range(3)
PATIENCE = 256
"""Pools looked at, once a level suffices with one idle node broken, in the hope of breaking none."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def judge_pool(supply, filters, pool: int) -> int:  # type: ignore[no-untyped-def]
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


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def passes(supply, filters, slot: int) -> bool:  # type: ignore[no-untyped-def]
    """Whether one slot keeps the filters that pools cannot decide."""
    supplier, reliability = supply[6], supply[8]
    supplier_ok, wanted = filters[1], filters[7]
    if reliability[slot] < wanted:
        return False
    return supplier_ok.size == 0 or supplier_ok[supplier[slot]]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _next_run(supply, filters, by_slot: bool, pool: int, slot: int, g: int) -> int:  # type: ignore[no-untyped-def]
    """First slot from `slot` on, behind the base, that can hold a replica; END if there is none."""
    table, free = supply[0], supply[5]
    end = table[pool, END]
    while slot < end and (free[slot] < g or (by_slot and not passes(supply, filters, slot))):
        slot += 1
    return slot


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _run_end(supply, pool: int, slot: int) -> int:  # type: ignore[no-untyped-def]
    """End of the run of slots of one price that starts at `slot`."""
    table, ask = supply[0], supply[3]
    if slot < table[pool, BASE]:
        return table[pool, BASE]
    end = slot + 1
    while end < table[pool, END] and ask[end] == ask[slot]:
        end += 1
    return end


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _measure(supply, filters, by_slot: bool, pool: int, slot: int, g: int, fits: Int):  # type: ignore[no-untyped-def]
    """(replicas in fragments, idle nodes) of the run that starts at `slot`; `fits[f]` = f // g."""
    table, free, histogram = supply[0], supply[5], supply[9]
    count = table[pool, GPU_COUNT]
    fragments, idle = 0, 0
    if slot < table[pool, BASE] and not by_slot:
        cell = table[pool, HISTOGRAM]
        for gpus in range(g, count):
            fragments += histogram[cell + gpus] * fits[gpus]
        return fragments, histogram[cell + count] if count >= g else 0
    for other in range(slot, _run_end(supply, pool, slot)):
        if free[other] >= g and not (by_slot and not passes(supply, filters, other)):
            if free[other] == count:
                idle += 1
            else:
                fragments += fits[free[other]]
    return fragments, idle


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sift_down(key: Int, item: Int, size: int, place: int) -> None:
    while True:
        child = 2 * place + 1
        if child >= size:
            return
        if child + 1 < size and key[child + 1] < key[child]:
            child += 1
        if key[place] <= key[child]:
            return
        key[place], key[child] = key[child], key[place]
        item[place], item[child] = item[child], item[place]
        place = child


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _push(key: Int, item: Int, size: int, new_key: int, new_item: int) -> int:
    """Add to the heap; return its new size."""
    place = size
    while place > 0 and key[(place - 1) // 2] > new_key:
        parent = (place - 1) // 2
        key[place], item[place] = key[parent], item[parent]
        place = parent
    key[place], item[place] = new_key, new_item
    return size + 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _pop(key: Int, item: Int, size: int):  # type: ignore[no-untyped-def]
    """(item of the least key, new size)."""
    top = item[0]
    size -= 1
    key[0], item[0] = key[size], item[size]
    _sift_down(key, item, size, 0)
    return top, size


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _open_run(supply, filters, by_slot, pool, slot, g, fits, slots, holds, kind, found):  # type: ignore[no-untyped-def]
    """Append the useful slots of a run to the candidates; return their new number."""
    table, free = supply[0], supply[5]
    count = table[pool, GPU_COUNT]
    for other in range(slot, _run_end(supply, pool, slot)):
        if free[other] < g or (by_slot and not passes(supply, filters, other)):
            continue
        slots[found] = other
        holds[found] = fits[free[other]]
        kind[found] = FRAGMENT if free[other] < count else (PERFECT if count % g == 0 else IMPERFECT)
        found += 1
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _breaks_none(perfect_of: Int, sizes: Int, kinds: int, fragments: int, wanted: int) -> bool:
    """Whether largest-first shows that perfect nodes and fragments can give `wanted` replicas unbroken.

    Sufficient, not necessary: used to stop looking, never to conclude that a node must be broken.
    """
    for place in range(kinds):
        size = sizes[place]
        wanted -= min(perfect_of[size], wanted // size) * size
    return wanted <= fragments


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _open_useful(supply, filters, run, level, wanted, g, fits, slots, holds, kind):  # type: ignore[no-untyped-def]
    """Open candidates of the last level until `solvers.fill` can decide as well as with all of them.

    Needed: fragments worth `wanted`; of each perfect size nodes worth `wanted`, at least one; all imperfect
    nodes if fragments and perfect nodes do not suffice. Runs are opened in the order of `level`.
    """
    table = supply[0]
    pools, by_slot, cursor, fragments, idle = run
    unbroken, largest = 0, 0
    for entry in level:
        count = table[pools[entry], GPU_COUNT]
        largest = max(largest, fits[count])
        unbroken += fragments[entry] + (idle[entry] * fits[count] if count % g == 0 else 0)
    need_fragments = wanted
    need_idle = np.full(largest + 1, wanted, dtype=np.int64)
    found = 0
    for entry in level:
        pool = pools[entry]
        count = table[pool, GPU_COUNT]
        size = fits[count]
        use_idle = need_idle[size] > 0 if count % g == 0 else unbroken < wanted
        if (fragments[entry] == 0 or need_fragments <= 0) and (idle[entry] == 0 or not use_idle):
            continue
        before = found
        found = _open_run(supply, filters, by_slot[entry], pool, cursor[entry], g, fits, slots, holds, kind, found)
        kept = before
        for candidate in range(before, found):
            if kind[candidate] == FRAGMENT:
                useful = need_fragments > 0
                need_fragments -= holds[candidate]
            elif kind[candidate] == PERFECT:
                useful = need_idle[size] > 0
                need_idle[size] -= size
            else:
                useful = unbroken < wanted
            if useful:
                slots[kept], holds[kept], kind[kept] = slots[candidate], holds[candidate], kind[candidate]
                kept += 1
        found = kept
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _most_unbroken(holds: Int, kind: Int, members: Int, limit: int):  # type: ignore[no-untyped-def]
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


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
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


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _nth_imperfect(holds: Int, kind: Int, members: Int, n: int) -> int:
    """Replicas that the n-th largest imperfect node of a group holds; 0 past the last."""
    sizes = np.sort(holds[members][kind[members] == IMPERFECT])
    return sizes[sizes.size - 1 - n] if n < sizes.size else 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _take_with_limits(holds, kind, merit, supplier, given, cap, wanted, take):  # type: ignore[no-untyped-def]
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
    return quota.sum()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _admit(supply, filters, pool, entry, g, fits, run):  # type: ignore[no-untyped-def]
    """Judge a pool and set its cursor to its first run with room; return that run's price, or NO_PRICE."""
    table = supply[0]
    pools, by_slot, cursor, fragments, idle = run
    verdict = judge_pool(supply, filters, pool)
    if verdict == NO:
        return NO_PRICE
    pools[entry], by_slot[entry] = pool, verdict == BY_SLOT
    slot = table[pool, START]
    if slot < table[pool, BASE]:
        cursor[entry] = slot
        fragments[entry], idle[entry] = _measure(supply, filters, by_slot[entry], pool, slot, g, fits)
        if fragments[entry] + idle[entry] > 0:
            return table[pool, POSTED]
    return _advance(supply, filters, entry, table[pool, BASE], g, fits, run)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _advance(supply, filters, entry, slot, g, fits, run):  # type: ignore[no-untyped-def]
    """Set a pool's cursor to its first run with room from `slot` on; return its price, or NO_PRICE."""
    table, ask = supply[0], supply[3]
    pools, by_slot, cursor, fragments, idle = run
    pool = pools[entry]
    slot = _next_run(supply, filters, by_slot[entry], pool, slot, g)
    if slot == table[pool, END]:
        return NO_PRICE
    cursor[entry] = slot
    fragments[entry], idle[entry] = _measure(supply, filters, by_slot[entry], pool, slot, g, fits)
    return ask[slot]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def walk(supply, filters, listed, work, g, replicas, cap, stop_above, out_slot, out_take):  # type: ignore[no-untyped-def]
    """Place `replicas` replicas of `g` GPUs on the pools `listed` (in `Pools.by_price` order) at the least rate.

    `cap`: most replicas of one supplier, or NO_LIMIT. Gives up early once the rate must exceed `stop_above`.
    Writes slots and replicas into `out_slot`, `out_take`; returns (replicas still missing, nodes, rate in
    micro-USD per hour). A positive first value: infeasible, or given up.
    """
    table, merit, supplier, from_price = supply[0], supply[4], supply[6], supply[10]
    run = work[:5]
    pools, by_slot, cursor, fragments, idle = run
    key, item, level, perfect_of, sizes, fits = work[5:]
    for gpus in range(fits.size):
        fits[gpus] = gpus // g
    given = np.zeros(supplier.max() + 1 if cap != NO_LIMIT else 0, dtype=np.int64)
    entries, waiting, head = 0, 0, 0
    left, nodes, rate = replicas, 0, 0
    while left > 0:
        price = key[0] if waiting > 0 else NO_PRICE
        if head < listed.size:
            price = min(price, from_price[listed[head]])
        if price == NO_PRICE or rate + left * g * price > stop_above:
            break
        # Gather the level: all runs at this price, by merit. Stop early once the choice cannot get better.
        equal, total, unbroken_fragments, kinds, slots_in_level, patience = 0, 0, 0, 0, 0, PATIENCE
        perfect_of[:] = 0
        unbroken = 0
        while True:
            if waiting > 0 and key[0] == price:
                entry, waiting = _pop(key, item, waiting)
            elif head < listed.size and from_price[listed[head]] == price:
                own_price = _admit(supply, filters, listed[head], entries, g, fits, run)
                head += 1
                if own_price == NO_PRICE:
                    continue
                entry = entries
                entries += 1
                if own_price > price:
                    waiting = _push(key, item, waiting, own_price, entry)
                    continue
            else:
                break
            level[equal] = entry
            equal += 1
            pool = pools[entry]
            count = table[pool, GPU_COUNT]
            size = fits[count]
            total += fragments[entry] + idle[entry] * size
            unbroken_fragments += fragments[entry]
            slots_in_level += _run_end(supply, pool, cursor[entry]) - cursor[entry]
            if count % g == 0 and idle[entry] > 0:
                if perfect_of[size] == 0:
                    kinds = _insert_size(sizes, kinds, size)
                perfect_of[size] += idle[entry]
                unbroken += idle[entry] * size
            if cap == NO_LIMIT and unbroken + unbroken_fragments >= left:
                patience -= 1
                if patience < 0 or _breaks_none(perfect_of, sizes, kinds, unbroken_fragments, left):
                    break
        slots = np.empty(slots_in_level, dtype=np.int64)
        holds = np.empty(slots_in_level, dtype=np.int64)
        kind = np.empty(slots_in_level, dtype=np.int64)
        last = cap == NO_LIMIT and total >= left
        if last:
            found = _open_useful(supply, filters, run, level[:equal], left, g, fits, slots, holds, kind)
        else:
            found = 0
            for place in range(equal):
                entry = level[place]
                pool, slot = pools[entry], cursor[entry]
                found = _open_run(supply, filters, by_slot[entry], pool, slot, g, fits, slots, holds, kind, found)
        slots, holds, kind = slots[:found], holds[:found], kind[:found]
        take = holds
        taken = total
        if cap != NO_LIMIT:
            take = np.zeros(found, dtype=np.int64)
            taken = _take_with_limits(holds, kind, merit[slots], supplier[slots], given, cap, left, take)
        elif last:
            take = np.zeros(found, dtype=np.int64)
            fill(holds, kind, merit[slots], left, take)
            taken = left
        for candidate in range(found):
            if take[candidate] > 0:
                out_slot[nodes], out_take[nodes] = slots[candidate], take[candidate]
                nodes += 1
        left -= taken
        rate += taken * g * price
        if left == 0:
            break
        for place in range(equal):  # move the cursors of this level on; their next prices are higher
            entry = level[place]
            slot = _run_end(supply, pools[entry], cursor[entry])
            own_price = _advance(supply, filters, entry, slot, g, fits, run)
            if own_price != NO_PRICE:
                waiting = _push(key, item, waiting, own_price, entry)
    return left, nodes, rate


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _insert_size(sizes: Int, kinds: int, size: int) -> int:
    """Insert a size into the first `kinds` entries, largest first; return their new number."""
    place = kinds
    while place > 0 and sizes[place - 1] < size:
        sizes[place] = sizes[place - 1]
        place -= 1
    sizes[place] = size
    return kinds + 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _tie_break(supply, slots, take, g):  # type: ignore[no-untyped-def]
    """(idle nodes broken, Σ gpus·ask, Σ gpus·reliability) of a placement."""
    table, ask, free, reliability, pool_of = supply[0], supply[3], supply[5], supply[8], supply[11]
    broken, asks, trust = 0, 0, 0.0
    for place in range(slots.size):
        slot, gpus = slots[place], take[place] * g
        count = table[pool_of[slot], GPU_COUNT]
        broken += free[slot] == count and gpus < count
        asks += gpus * ask[slot]
        trust += gpus * reliability[slot]
    return broken, asks, trust


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _ids_before(rank, ours, theirs) -> bool:  # type: ignore[no-untyped-def]
    """Whether one set of nodes comes before another by its sorted node ids."""
    left, right = np.sort(rank[ours]), np.sort(rank[theirs])
    for place in range(min(left.size, right.size)):
        if left[place] != right[place]:
            return left[place] < right[place]
    return left.size < right.size


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def best_of(supply, filters, work, listed, first, last, g, replicas, cap, stop_above):  # type: ignore[no-untyped-def]
    """The best placement over alternatives: option o may use the pools listed[first[o]:last[o]].

    Returns (option or -1, rate, idle nodes broken, slots, replicas per slot). Order: rate, idle nodes broken,
    Σ ask, -Σ reliability, sorted node ids.
    """
    room = min(replicas, supply[3].size)
    slots, take = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    best_slots, best_take = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    best, best_nodes, best_rate, best_broken, best_asks, best_trust = -1, 0, stop_above, 0, 0, 0.0
    for option in range(first.size):
        own = listed[first[option] : last[option]]
        left, nodes, rate = walk(supply, filters, own, work, g, replicas, cap, best_rate, slots, take)
        if left > 0:
            continue
        broken, asks, trust = _tie_break(supply, slots[:nodes], take[:nodes], g)
        better = best == -1 or rate < best_rate
        if not better and rate == best_rate:
            better = broken < best_broken
            if broken == best_broken:
                better = asks < best_asks
                if asks == best_asks:
                    better = trust > best_trust
                    if trust == best_trust:
                        better = _ids_before(supply[7], slots[:nodes], best_slots[:best_nodes])
        if better:
            best, best_nodes, best_rate = option, nodes, rate
            best_broken, best_asks, best_trust = broken, asks, trust
            slots, best_slots = best_slots, slots
            take, best_take = best_take, take
    return best, best_rate, best_broken, best_slots[:best_nodes].copy(), best_take[:best_nodes].copy()
