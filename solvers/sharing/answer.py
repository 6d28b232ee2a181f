"""The fleet's best answer to the bids: each node takes its own best filling.

The best filling at one grid price of CPU asks for too much CPU, that at the next one leaves some: between them
lies the node's true price, and the mixture that uses all of its CPU is the answer.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.columns import NOBODY, add_card, add_group, know
from solvers.sharing.fleet import CARD_MILLI, Int
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.tables import LEVEL_MILLI, Float


@finite_kernel
def sellers(fleet: Arrays) -> Arrays:
    """Who has anything left of a card: (node, levels of its broken cards, their number, whole cards, twin).

    Levels are (R, cards), the others (R,). `twin`: an earlier equal seller, or the seller itself.
    """
    _, _, card_left, cards, _, untouched, kind, _ = fleet
    of_node, broken, free, twin = np.zeros((4, cards.size), dtype=np.int64)
    levels = np.zeros(card_left.shape, dtype=np.int64)
    first = np.full(cards.size, NOBODY)
    count = 0
    for node in range(cards.size):
        for card in range(cards[node]):
            if card_left[node, card] == CARD_MILLI:
                free[count] += 1
            elif card_left[node, card] >= LEVEL_MILLI:
                levels[count, broken[count]] = card_left[node, card] // LEVEL_MILLI
                broken[count] += 1
        if free[count] + broken[count] == 0:
            continue
        of_node[count], twin[count] = node, count
        if untouched[node]:
            if first[kind[node]] == NOBODY:
                first[kind[node]] = count
            twin[count] = first[kind[node]]
        count += 1
    return of_node[:count], levels[:count], broken[:count], free[:count], twin[:count]


@finite_kernel
def answer(
    shapes: Arrays,
    place: Int,
    bid: Float,
    fleet: Arrays,
    grid: Arrays,
    tables: Arrays,
    columns: Arrays,
    selling: Arrays,
) -> Float:
    """(K,) per shape, the slots of every seller's best filling. `columns` know nothing that is out of date."""
    of_node, levels, broken, free, twin = selling
    level_cpu, group_cpu, known = columns[2], columns[5], columns[6]
    cpu_left, memory_left, model_of, alike = fleet[0], fleet[1], fleet[4], fleet[7]
    cpu_price, memory_price = grid
    card_brings, group_brings = tables[0], tables[1]
    used, vector = np.zeros(bid.size), np.zeros(cpu_price.size)
    low, high = np.full(of_node.size, NOBODY), np.full(of_node.size, NOBODY)
    share = np.ones(of_node.size)
    for seller in range(of_node.size):
        node, same = of_node[seller], twin[seller]
        model = model_of[node]
        if same != seller:
            low[seller], high[seller], share[seller] = low[same], high[same], share[same]
        else:
            for q in range(vector.size):
                vector[q] = cpu_price[q] * cpu_left[node] + memory_price[q] * memory_left[node]
            for card in range(broken[seller]):
                level = levels[seller, card]
                for q in range(vector.size):
                    vector[q] += card_brings[model, level, q]
            least = np.inf
            for q in range(vector.size):
                vector[q] += group_brings[model, free[seller], q]
                least = min(least, vector[q])
            if least > 0.0:
                q = 0
                while vector[q] != least:
                    q += 1
                low[seller] = q
                if not known[model, q]:
                    know(shapes, place, bid, grid, tables, columns, model, q)
                low_cpu = group_cpu[model, q, free[seller]]
                for card in range(broken[seller]):
                    low_cpu += level_cpu[model, q, levels[seller, card]]
                q += 1 if low_cpu > cpu_left[node] else -1
                if 0 <= q < vector.size and memory_price[q] == memory_price[low[seller]]:
                    if not known[model, q]:
                        know(shapes, place, bid, grid, tables, columns, model, q)
                    high_cpu = group_cpu[model, q, free[seller]]
                    for card in range(broken[seller]):
                        high_cpu += level_cpu[model, q, levels[seller, card]]
                    if low_cpu != high_cpu:
                        part = (float(cpu_left[node]) - high_cpu) / (low_cpu - high_cpu)
                        share[seller] = min(max(part, 0.0), 1.0)
                        high[seller] = q if part < 1.0 else NOBODY
        if low[seller] == NOBODY:
            continue
        weight = alike[node] * share[seller]
        _add(columns, model, low[seller], levels[seller, : broken[seller]], free[seller], weight, used)
        if high[seller] != NOBODY:
            weight = alike[node] * (1.0 - share[seller])
            _add(columns, model, high[seller], levels[seller, : broken[seller]], free[seller], weight, used)
    return used


@finite_kernel
def _add(columns: Arrays, model: int, q: int, levels: Int, free: int, weight: float, used: Float) -> None:
    add_group(columns, model, q, free, weight, used)
    for level in levels:
        add_card(columns, model, q, level, weight, used)
