"""The cheapest placement of one gang at given prices: a merge of sorted lists, over all its choices.

    for each choice: take the cheapest replicas from its segments until the gang is whole

This is exact: replicas of one gang are alike, a node offers ⌊free/g⌋ of them at g times its price, and a limit per
supplier keeps the cheapest-first rule optimal (a partition matroid). GPUs that stay where they run are offered
`move_cost` cheaper than the same GPUs elsewhere; the caller adds move_cost·n. CPU and memory that a replica needs
beside its GPUs lower what a node offers. A part of a GPU stands on one card (`solvers.planning.seats`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, inlined, leaf
from solvers.planning.choices import C_FABRIC, C_FIRST, C_LAST, C_MASK, C_MODEL
from solvers.planning.places import next_place
from solvers.planning.seats import cheapest_seat, replicas_in, share

Int = NDArray[np.int64]
INFINITE = np.inf
ALL, NONE = -2, -1
"""Of the lists of a choice, whose heads may have to move on."""


def merge_for(beside: bool) -> Callable[..., tuple[float, int, int]]:
    """The kernel behind `cheapest` for gangs of whole GPUs; `beside`: that may need CPU or memory, too.

    Two kernels of one text: who needs neither pays for no test of them in the loop.
    """

    def merge(
        gang: int,
        gangs: Arrays,
        shapes: Arrays,
        supply: Arrays,
        walk: Arrays,
        room: Arrays,
        price: NDArray[np.float64],
        most: float,
        work: Arrays,
    ) -> tuple[float, int, int]:
        """See `cheapest`."""
        replicas, size, shape_of, most_of_supplier, kept_first, kept_slot, kept_replicas, move_cost = gangs[:8]
        pinned_first, pinned_supplier, pinned_gpus = gangs[9:12]
        first, table, segments, masks, bits = shapes
        row_of, site_of, supplier_of, model_of, fabric_of = supply
        walk_slot = walk[0]
        best_slot, best_take, slots, takes, used, heads, left_of_kept = work
        shape, g, need = shape_of[gang], size[gang], replicas[gang]
        cap, free = most_of_supplier[gang], room[0]
        kept_begin, kept_end = kept_first[gang], kept_first[gang + 1]
        mine = bits[shape]
        one = np.uint64(1)
        best, best_count, best_choice = most, 0, -1
        for choice in range(first[shape], first[shape + 1]):
            begin, end = table[choice, C_FIRST], table[choice, C_LAST]
            mask = table[choice, C_MASK]
            lists = end - begin
            # Kept slots of this choice, cheapest first (few: selection by repeated scan).
            kept = 0
            for i in range(kept_begin, kept_end):
                slot = kept_slot[i]
                fits = (
                    (table[choice, C_MODEL] < 0 or model_of[slot] == table[choice, C_MODEL])
                    and (table[choice, C_FABRIC] < 0 or fabric_of[slot] == table[choice, C_FABRIC])
                    and (mask < 0 or masks[mask, site_of[slot]])
                    and (mine[row_of[slot] >> 6] >> np.uint64(row_of[slot] & 63)) & one
                )
                left_of_kept[i - kept_begin] = min(kept_replicas[i], free[slot] // g) if fits else 0
                if fits and beside:
                    left_of_kept[i - kept_begin] = min(kept_replicas[i], replicas_in(slot, gang, gangs, room))
                kept += left_of_kept[i - kept_begin] > 0
            cost, left, count = 0.0, need, 0
            if cap >= 0:
                for i in range(pinned_first[gang], pinned_first[gang + 1]):
                    used[pinned_supplier[i]] += pinned_gpus[i]
            for i in range(lists):
                heads[i] = segments[begin + i, 0]
            moved = ALL
            while left > 0:
                # The next list: the one whose head is cheapest.
                chosen, cheapest_price = -1, INFINITE
                for i in range(lists):
                    stop = segments[begin + i, 1]
                    if i == moved or moved == ALL:
                        heads[i] = next_place(
                            heads[i], begin + i, g, mine, mask, segments, walk, site_of, masks, free
                        )
                    if heads[i] < stop and price[walk_slot[heads[i]]] < cheapest_price:
                        chosen, cheapest_price = i, price[walk_slot[heads[i]]]
                moved = NONE
                stays = -1
                if kept > 0:
                    for i in range(kept_begin, kept_end):
                        if left_of_kept[i - kept_begin] > 0 and price[kept_slot[i]] - move_cost < cheapest_price:
                            stays, chosen, cheapest_price = i, 0, price[kept_slot[i]] - move_cost
                if chosen < 0 or cost + left * g * cheapest_price >= best:
                    break
                if stays >= 0:
                    slot, offer = kept_slot[stays], left_of_kept[stays - kept_begin]
                    left_of_kept[stays - kept_begin] = 0
                    kept -= 1
                else:
                    slot = walk_slot[heads[chosen]]
                    heads[chosen] += 1
                    moved = chosen
                    offer = replicas_in(slot, gang, gangs, room) if beside else free[slot] // g
                    for i in range(kept_begin, kept_end):
                        if kept_slot[i] == slot:
                            offer -= min(kept_replicas[i], offer)
                    if offer == 0:
                        continue
                take = min(offer, left)
                if cap >= 0:
                    take = min(take, (cap - used[supplier_of[slot]]) // g)
                    if take <= 0:
                        continue
                    used[supplier_of[slot]] += take * g
                slots[count], takes[count] = slot, take
                count += 1
                cost += take * g * cheapest_price
                left -= take
            if cap >= 0:
                for i in range(count):
                    used[supplier_of[slots[i]]] = 0
                for i in range(pinned_first[gang], pinned_first[gang + 1]):
                    used[pinned_supplier[i]] = 0
            if left == 0 and cost < best:
                best, best_count, best_choice = cost, count, choice
                for i in range(count):
                    best_slot[i], best_take[i] = slots[i], takes[i]
        if best_choice < 0:
            return INFINITE, 0, -1
        if kept_end > kept_begin:
            best_count = merged(best_slot, best_take, best_count)
        return best, best_count, best_choice

    return leaf(merge)


merge_of_gpus, merge_beside = merge_for(False), merge_for(True)


@leaf
def cheapest(
    gang: int,
    gangs: Arrays,
    shapes: Arrays,
    supply: Arrays,
    walk: Arrays,
    room: Arrays,
    price: NDArray[np.float64],
    most: float,
    work: Arrays,
) -> tuple[float, int, int]:
    """(cost, nodes used, choice) of the cheapest placement with cost < `most`; (inf, 0, -1) if there is none.

    The nodes stand in work[0] (slots) and work[1] (replicas). `room`: what may be used now, as `Prepared.room`.
    `price` (slots,) must rise along every segment of `walk`. `gangs`: replicas, GPUs per replica, shape, GPUs per
    supplier, first kept row, kept slots, kept replicas, move cost, surcharge, first pinned row, its supplier, its
    GPUs, CPU, memory, thousandths of a card, cards of kept rows. `walk`: slots, rows, places of each slot, then as
    `places` has them: room, stale, words, fits, known (mutated). Bits outside a segment are never read, so threads
    on different models agree.
    """
    if gangs[14].size == 0:
        return merge_of_gpus(gang, gangs, shapes, supply, walk, room, price, most, work)
    if gangs[14][gang] > 0:
        return cheapest_seat(gang, gangs, shapes, supply, walk, room, price, most, work)
    return merge_beside(gang, gangs, shapes, supply, walk, room, price, most, work)


@leaf
def merged(slots: Int, takes: Int, count: int) -> int:
    """Add up what stands twice, in place; the number of distinct slots."""
    kept = 0
    for i in range(count):
        for j in range(kept):
            if slots[j] == slots[i]:
                takes[j] += takes[i]
                break
        else:
            slots[kept], takes[kept] = slots[i], takes[i]
            kept += 1
    return kept


@inlined
def true_cost(gang: int, gangs: Arrays, count: int, slots: Int, takes: Int, ask: Int) -> int:
    """Asks and moves of a placement, micro-USD per hour."""
    size, kept_first, kept_slot, kept_replicas, move_cost = gangs[1][gang], gangs[4], gangs[5], gangs[6], gangs[7]
    cost = int(gangs[8][gang])
    if gangs[14].size > 0 and gangs[14][gang] > 0:
        stays = kept_first[gang] < kept_first[gang + 1] and kept_slot[kept_first[gang]] == slots[0]
        return share(ask[slots[0]], gangs[14][gang]) + (0 if stays else cost)
    for i in range(count):
        cost += ask[slots[i]] * takes[i] * size
        for k in range(kept_first[gang], kept_first[gang + 1]):
            if kept_slot[k] == slots[i]:
                cost -= int(move_cost) * min(kept_replicas[k], takes[i]) * size
    return cost
