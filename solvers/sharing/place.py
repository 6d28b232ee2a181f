"""The place of one replica among those that cost the least: where it destroys least of what demand would pay for.

What a place destroys is V(before) − V(after) at the prices of `solvers.sharing.worth`. Cost comes first, so nobody
pays more for it. Then: a shared card before a whole one; least left on it; ask, -reliability, node id; the lowest
card. Nodes that look the same as the one before them are not valued again. After `LOOKED_AT_MAX` valued ones the
rest are left out: the choice is then the best of those with the lowest asks.

Cost: O(slots of the pools listed), some 0.3 µs for each node that is valued.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import BASE, END, MODEL, POSTED, START
from solvers.runs import BY_SLOT, NO, judge_pool, passes
from solvers.sharing.fleet import CARD_MILLI
from solvers.sharing.tables import LEVEL_MILLI

Int = NDArray[np.int64]
NO_ROW = WHOLE_CARD = -1
LOOKED_AT_MAX = 4_096


@kernel
def least_destroyed(
    supply: Arrays,
    filters: Arrays,
    listed: Int,
    node_of: Int,
    row_of: Int,
    spare: Arrays,
    worth: Arrays,
    need: tuple[int, int, int, int],
    price: int,
) -> tuple[int, int]:
    """(slot, card or -1) of the best place at `price` on the pools `listed`; slot -1: none costs that.

    `node_of` (slots,), `row_of` (nodes,) row of shared cards; `spare` as in `solvers.cards`; `need`: whole GPUs,
    thousandths of one (0: whole), CPU, memory. Of a part, -1 as card means a whole card of the node.
    """
    table, cost, merit, free, from_price = supply[0], supply[3], supply[4], supply[5], supply[10]
    cpu_left, memory_left, is_open, _, left = spare
    gpus, milli, cpu, memory = need
    best, best_card, best_left, least = -1, WHOLE_CARD, 0, np.inf
    looked_at, like, like_cost = 0, (-1, 0, 0, 0), 0.0
    for pool in listed:
        if from_price[pool] > price or looked_at >= LOOKED_AT_MAX:
            continue
        verdict = judge_pool(supply, filters, pool)
        if verdict == NO:
            continue
        first = table[pool, START] if table[pool, POSTED] == price else table[pool, BASE]
        kind = worth[0][table[pool, MODEL]]
        for slot in range(first, table[pool, END]):
            node = node_of[slot]
            row = row_of[node]
            shared = milli > 0 and row != NO_ROW
            if (slot >= table[pool, BASE] and cost[slot] != price) or not is_open[node]:
                continue
            if (free[slot] < gpus and not shared) or cpu_left[node] < cpu or memory_left[node] < memory:
                continue
            if verdict == BY_SLOT and not passes(supply, filters, slot):
                continue
            if free[slot] >= gpus:
                state = kind, free[slot], cpu_left[node], memory_left[node]
                if row != NO_ROW or state != like:
                    if looked_at >= LOOKED_AT_MAX:
                        break
                    looked_at += 1
                    like = state if row == NO_ROW else (-1, 0, 0, 0)
                    rest = CARD_MILLI - milli if milli > 0 else 0
                    like_cost = destroyed(worth, state, left, row, gpus, 0, rest, cpu, memory)
                better = like_cost < least
                if like_cost == least:  # a shared card has less left than a whole one, so it comes before
                    better = best_left == CARD_MILLI and merit[slot] < merit[best]
                if better:
                    best, best_card, best_left, least = slot, WHOLE_CARD, CARD_MILLI, like_cost
            if not shared:
                continue
            for card in range(left.shape[1]):
                if left[row, card] < milli or looked_at >= LOOKED_AT_MAX:  # also where the card is whole
                    continue
                looked_at += 1
                state = kind, free[slot], cpu_left[node], memory_left[node]
                had = left[row, card]
                own = destroyed(worth, state, left, row, 0, had, had - milli, cpu, memory)
                better = own < least
                if own == least:
                    better = had < best_left or (had == best_left and merit[slot] < merit[best])
                if better:
                    best, best_card, best_left, least = slot, card, had, own
    return best, best_card


@kernel
def destroyed(
    worth: Arrays,
    state: tuple[int, int, int, int],
    left: Int,
    row: int,
    gpus: int,
    had: int,
    rest: int,
    cpu: int,
    memory: int,
) -> float:
    """V(before) − V(after) of a node in `state` (kind, whole cards, CPU left, memory left), shared cards in `row`.

    Taken: `gpus` whole cards, CPU, memory; one card goes from `had` thousandths, 0 if it was whole, to `rest`.
    """
    _, cpu_price, memory_price, card, group = worth
    kind, whole, cpu_left, memory_left = state
    before, after = np.inf, np.inf
    for q in range(cpu_price.size):
        now = cpu_price[q] * cpu_left + memory_price[q] * memory_left + group[kind, whole, q]
        if row != NO_ROW:
            for place in range(left.shape[1]):
                if left[row, place] > 0:
                    now += card[kind, left[row, place] // LEVEL_MILLI, q]
        then = now - cpu_price[q] * cpu - memory_price[q] * memory
        then += group[kind, whole - gpus, q] - group[kind, whole, q]
        then += card[kind, rest // LEVEL_MILLI, q] - card[kind, had // LEVEL_MILLI, q]
        before, after = min(before, now), min(after, then)
    return before - after
