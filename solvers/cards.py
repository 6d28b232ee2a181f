"""Placing a part of a GPU: on a shared card, or on a whole one where no shared card with room is as cheap.

The rule, in order: cost; a shared card rather than a whole one; least left on the shared card; ask, -reliability,
node id; the lowest card number. A whole card is placed as one GPU is (`solvers.walk`). Exact in cost: every node
with a shared card is looked at, and the walk is exact. Cost: O(nodes with shared cards), beside the walk's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import BASE, MODEL, POSTED
from solvers.runs import BY_SLOT, NO, NO_PRICE, judge_pool, passes

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
NO_CARD = -1


@kernel
def best_shared(
    supply: Arrays, filters: Arrays, models: Flags, slot_of: Int, spare: Arrays, milli: int, cpu: int, memory: int
) -> tuple[int, int, int]:
    """(slot, card, price) of the best shared card with `milli` thousandths left; slot -1: there is none.

    `models`: which are acceptable, (models,). `slot_of` (nodes,). `spare`: CPU left, memory left, is open, each
    (nodes,), and `Cards.node_of`, `Cards.left`.
    """
    table, cost, merit, pool_of = supply[0], supply[3], supply[4], supply[11]
    cpu_left, memory_left, is_open, node_of, left = spare
    best, best_card, best_price, best_left = -1, NO_CARD, NO_PRICE, 0
    for row in range(node_of.size):
        node = node_of[row]
        if node < 0 or not is_open[node] or cpu_left[node] < cpu or memory_left[node] < memory:
            continue
        slot = slot_of[node]
        pool = pool_of[slot]
        if not models[table[pool, MODEL]]:
            continue
        price = table[pool, POSTED] if slot < table[pool, BASE] else cost[slot]
        if price > best_price:
            continue
        verdict = judge_pool(supply, filters, pool)
        if verdict == NO or (verdict == BY_SLOT and not passes(supply, filters, slot)):
            continue
        for card in range(left.shape[1]):
            if left[row, card] < milli:  # also where the card is whole
                continue
            better = price < best_price or left[row, card] < best_left
            if better or (left[row, card] == best_left and merit[slot] < merit[best]):
                best, best_card, best_price, best_left = slot, card, price, left[row, card]
    return best, best_card, best_price
