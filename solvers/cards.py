"""Placing a part of a GPU: the cheapest node with room, and on equally cheap ones the card it fits best.

The rule, in order: cost; a shared card rather than a whole one; least left on the shared card; no idle node
broken; ask, -reliability, node id; the lowest card number. Exact: every node of the least price is looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import BASE, END, GPU_COUNT, POSTED, START
from solvers.runs import BY_SLOT, NO, NO_PRICE, judge_pool, passes
from solvers.spare import MILLI, NO_ROW, WHOLE

Int = NDArray[np.int64]
NO_CARD = -1


@kernel
def best_card(
    supply: Arrays,
    filters: Arrays,
    listed: Int,
    first: Int,
    last: Int,
    node: Int,
    spare: Arrays,
    milli: int,
    cpu: int,
    memory: int,
) -> tuple[int, int, int]:
    """(slot, card, price) of a part of `milli` thousandths over alternatives as in `solvers.walk`; slot -1: none.

    `spare`: CPU left, memory left, is open, each (nodes,), and `Cards.row_of`, `Cards.left`.
    """
    table, cost, merit, free, from_price = supply[0], supply[3], supply[4], supply[5], supply[10]
    best, best_card, best_price = -1, NO_CARD, NO_PRICE
    best_waste, best_breaks = 0, False
    for option in range(first.size):
        for place in range(first[option], last[option]):
            pool = listed[place]
            if from_price[pool] > best_price:
                break
            verdict = judge_pool(supply, filters, pool)
            if verdict == NO:
                continue
            for slot in range(table[pool, START], table[pool, END]):
                price = table[pool, POSTED] if slot < table[pool, BASE] else cost[slot]
                if price > best_price:
                    break
                if verdict == BY_SLOT and not passes(supply, filters, slot):
                    continue
                card, left = fitting_card(spare, node[slot], free[slot], milli, cpu, memory)
                if card == NO_CARD:
                    continue
                waste = MILLI + 1 if left == MILLI else left
                breaks = free[slot] == table[pool, GPU_COUNT]
                better = best < 0 or price < best_price
                if not better:
                    better = waste < best_waste
                    if waste == best_waste:
                        better = best_breaks and not breaks
                        if breaks == best_breaks:
                            better = merit[slot] < merit[best]
                if better:
                    best, best_card, best_price = slot, card, price
                    best_waste, best_breaks = waste, breaks
    return best, best_card, best_price


@kernel
def fitting_card(spare: Arrays, node: int, free: int, milli: int, cpu: int, memory: int) -> tuple[int, int]:
    """(card, thousandths left on it before) that a part fits best on one node; NO_CARD if there is none.

    Of a node without a shared card that has room the first whole one, of which MILLI are left.
    """
    cpu_left, memory_left, is_open, row_of, left = spare
    best, least = NO_CARD, MILLI
    if not is_open[node] or cpu_left[node] < cpu or memory_left[node] < memory:
        return best, least
    row, whole = row_of[node], 0
    if row != NO_ROW:
        whole = NO_CARD
        for card in range(left.shape[1]):
            if left[row, card] == WHOLE:
                if whole == NO_CARD:
                    whole = card
            elif left[row, card] >= milli and left[row, card] < least:
                best, least = card, left[row, card]
    if best == NO_CARD and free > 0:
        best = whole
    return best, least
