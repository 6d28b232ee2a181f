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
from numpy.typing import NDArray

from solvers.fill import FRAGMENT, IMPERFECT, PERFECT, fill
from solvers.heap import pop, push
from solvers.kernel import Arrays, kernel
from solvers.pools import GPU_COUNT
from solvers.runs import NO_PRICE, admit, advance, open_run, passes, run_end
from solvers.supplier_share import take_with_limits

Int = NDArray[np.int64]
NO_LIMIT, UNKNOWN = -1, -1
PATIENCE = 256
"""Pools looked at, once a level suffices with one idle node broken, in the hope of breaking none."""


@kernel
def best_of(
    supply: Arrays,
    filters: Arrays,
    work: Arrays,
    listed: Int,
    first: Int,
    last: Int,
    g: int,
    replicas: int,
    cap: int,
    stop_above: int,
    known: Int,
) -> tuple[int, int, int, Int, Int]:
    """The best placement over alternatives: option o may use the pools listed[first[o]:last[o]].

    `known`: empty, or what `work` still holds of an earlier call with the same filters and `g` (see `_gather`).
    Returns (option or -1, rate, idle nodes broken, slots, replicas per slot). Order: rate, idle nodes broken,
    Σ ask, -Σ reliability, sorted node ids.
    """
    slots, take, best_slots, best_take = work[12:16]
    best, best_nodes, best_rate, best_broken, best_asks, best_trust = -1, 0, stop_above, 0, 0, 0.0
    for option in range(first.size):
        own = first[option], last[option]
        left, nodes, rate = walk(
            supply, filters, listed, own, work, g, replicas, cap, best_rate, slots, take, known
        )
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


@kernel
def walk(
    supply: Arrays,
    filters: Arrays,
    listed: Int,
    own: tuple[int, int],
    work: Arrays,
    g: int,
    replicas: int,
    cap: int,
    stop_above: int,
    out_slot: Int,
    out_take: Int,
    known: Int,
) -> tuple[int, int, int]:
    """Place `replicas` replicas of `g` GPUs on the pools listed[own[0]:own[1]] (in `Pools.by_price` order) at the
    least rate.

    `cap`: most replicas of one supplier, or NO_LIMIT. Gives up early once the rate must exceed `stop_above`.
    Writes slots and replicas into `out_slot`, `out_take`; returns (replicas still missing, nodes, rate in
    micro-USD per hour). A positive first value: infeasible, or given up.
    """
    merit, supplier, from_price, free_of_pool = supply[4], supply[6], supply[10], supply[13]
    run = work[:5]
    pools, by_slot, cursor = run[:3]
    key, item, level, fits = work[5], work[6], work[7], work[10]
    for gpus in range(fits.size):
        fits[gpus] = gpus // g
    given = work[11]
    given[:] = 0
    waiting, (head, end) = 0, own
    left, nodes, rate = replicas, 0, 0
    while left > 0:
        price = key[0] if waiting > 0 else NO_PRICE
        while head < end and free_of_pool[listed[head]] < g:  # a full model is passed over at once
            head += 1
        if head < end:
            price = min(price, from_price[listed[head]])
        if price == NO_PRICE or rate + left * g * price > stop_above:
            break
        equal, total, room, waiting, head = _gather(
            supply, filters, listed, work, g, left, cap, price, waiting, head, end, known
        )
        slots, holds, kind = work[16][:room], work[17][:room], work[18][:room]
        last = cap == NO_LIMIT and total >= left
        if last:
            found = _open_useful(supply, filters, run, level[:equal], left, g, fits, slots, holds, kind)
        else:
            found = 0
            for place in range(equal):
                entry = level[place]
                pool, slot = pools[entry], cursor[entry]
                found = open_run(supply, filters, by_slot[entry], pool, slot, g, fits, slots, holds, kind, found)
        slots, holds, kind = slots[:found], holds[:found], kind[:found]
        take = holds
        taken = total
        if cap != NO_LIMIT:
            take = np.zeros(found, dtype=np.int64)
            taken = take_with_limits(holds, kind, merit[slots], supplier[slots], given, cap, left, take)
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
            if known.size > 0:
                known[entry] = UNKNOWN
            slot = run_end(supply, pools[entry], cursor[entry])
            own_price = advance(supply, filters, entry, slot, g, fits, run)
            if own_price != NO_PRICE:
                waiting = push(key, item, waiting, own_price, entry)
    return left, nodes, rate


@kernel
def _gather(
    supply: Arrays,
    filters: Arrays,
    listed: Int,
    work: Arrays,
    g: int,
    left: int,
    cap: int,
    price: int,
    waiting: int,
    head: int,
    end: int,
    known: Int,
) -> tuple[int, int, int, int, int]:
    """Gather the level: all runs at `price`, by merit, into `level`. Stop once the choice cannot get better.

    Pools from `head` to `end` are not looked at yet; a pool's entry has its place in `listed`. `known` (listed,),
    if not empty, mutated: the price at which its entry stands ready since an earlier walk, or UNKNOWN. Returns
    (runs, their replicas, their slots) and the new values of (waiting, head).
    """
    table, from_price = supply[0], supply[10]
    run = work[:5]
    pools, _, cursor, fragments, idle = run
    key, item, level, perfect_of, sizes, fits = work[5:11]
    equal, total, unbroken, all_fragments, kinds, room, patience = 0, 0, 0, 0, 0, 0, PATIENCE
    perfect_of[:] = 0
    while True:
        if waiting > 0 and key[0] == price:
            entry, waiting = pop(key, item, waiting)
        elif head < end and from_price[listed[head]] == price:
            entry = head
            head += 1
            if known.size > 0 and known[entry] != UNKNOWN:
                own_price = known[entry]
            else:
                own_price = admit(supply, filters, listed[entry], entry, g, fits, run)
                if known.size > 0:
                    known[entry] = own_price
            if own_price == NO_PRICE:
                continue
            if own_price > price:
                waiting = push(key, item, waiting, own_price, entry)
                continue
        else:
            break
        level[equal] = entry
        equal += 1
        count = table[pools[entry], GPU_COUNT]
        size = fits[count]
        total += fragments[entry] + idle[entry] * size
        all_fragments += fragments[entry]
        room += run_end(supply, pools[entry], cursor[entry]) - cursor[entry]
        if count % g == 0 and idle[entry] > 0:
            if perfect_of[size] == 0:
                kinds = _insert_size(sizes, kinds, size)
            perfect_of[size] += idle[entry]
            unbroken += idle[entry] * size
        if cap == NO_LIMIT and unbroken + all_fragments >= left:
            patience -= 1
            if patience < 0 or _breaks_none(perfect_of, sizes, kinds, all_fragments, left):
                break
    return equal, total, room, waiting, head


@kernel
def _open_useful(
    supply: Arrays,
    filters: Arrays,
    run: Arrays,
    level: Int,
    wanted: int,
    g: int,
    fits: Int,
    slots: Int,
    holds: Int,
    kind: Int,
) -> int:
    """Open candidates of the last level until `solvers.fill` can decide as well as with all of them.

    Needed: fragments worth `wanted`; of each perfect size nodes worth `wanted`, at least one; all imperfect nodes
    if fragments and perfect nodes do not suffice. Runs are opened in the order of `level`, and no further than the
    last slot needed: how many fragments and idle nodes a run has is known.
    """
    table, free = supply[0], supply[5]
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
        count = table[pools[entry], GPU_COUNT]
        size, more_fragments, more_idle, slot = fits[count], fragments[entry], idle[entry], cursor[entry]
        perfect = count % g == 0
        fragment = more_fragments > 0 and need_fragments > 0
        idler = more_idle > 0 and (need_idle[size] > 0 if perfect else unbroken < wanted)
        while fragment or idler:
            gpus = free[slot]
            useful = idler if gpus == count else fragment and gpus >= g
            if useful and not (by_slot[entry] and not passes(supply, filters, slot)):
                slots[found], holds[found] = slot, fits[gpus]
                if gpus < count:
                    kind[found] = FRAGMENT
                    need_fragments -= fits[gpus]
                    more_fragments -= fits[gpus]
                    fragment = more_fragments > 0 and need_fragments > 0
                else:
                    kind[found] = PERFECT if perfect else IMPERFECT
                    more_idle -= 1
                    if perfect:
                        need_idle[size] -= size
                    idler = more_idle > 0 and (not perfect or need_idle[size] > 0)
                found += 1
            slot += 1
    return found


@kernel
def _breaks_none(perfect_of: Int, sizes: Int, kinds: int, fragments: int, wanted: int) -> bool:
    """Whether largest-first shows that perfect nodes and fragments can give `wanted` replicas unbroken.

    Sufficient, not necessary: used to stop looking, never to conclude that a node must be broken.
    """
    for place in range(kinds):
        size = sizes[place]
        wanted -= min(perfect_of[size], wanted // size) * size
    return wanted <= fragments


@kernel
def _insert_size(sizes: Int, kinds: int, size: int) -> int:
    """Insert a size into the first `kinds` entries, largest first; return their new number."""
    place = kinds
    while place > 0 and sizes[place - 1] < size:
        sizes[place] = sizes[place - 1]
        place -= 1
    sizes[place] = size
    return kinds + 1


@kernel
def _tie_break(supply: Arrays, slots: Int, take: Int, g: int) -> tuple[int, int, float]:
    """(idle nodes broken, Σ gpus·ask, Σ gpus·reliability) of a placement."""
    table, ask, free, reliability, pool_of = supply[0], supply[12], supply[5], supply[8], supply[11]
    broken, asks, trust = 0, 0, 0.0
    for place in range(slots.size):
        slot, gpus = slots[place], take[place] * g
        count = table[pool_of[slot], GPU_COUNT]
        broken += free[slot] == count and gpus < count
        asks += gpus * ask[slot]
        trust += gpus * reliability[slot]
    return broken, asks, trust


@kernel
def _ids_before(rank: Int, ours: Int, theirs: Int) -> bool:
    """Whether one set of nodes comes before another by its sorted node ids."""
    left, right = np.sort(rank[ours]), np.sort(rank[theirs])
    for place in range(min(left.size, right.size)):
        if left[place] != right[place]:
            return bool(left[place] < right[place])
    return left.size < right.size
