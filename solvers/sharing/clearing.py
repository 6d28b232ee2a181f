"""The market for what is free: slots that each shape's money buys, by Frank–Wolfe steps.

    maximise Σ_k b_k·log x_k,  x in the set of slot counts that fit into the free fleet

The gradient at x is the bid w_k = b_k/x_k; the fleet's best answer to the bids is a vertex (each node takes its
own best filling, `solvers.sharing.values`); x moves by `STEP` towards it. Kept per shape is the fill
r_k = x_k/D_k, D_k being the slots its money would buy if all that is free were sold in the proportions of what has
arrived, so that w_k = g_k/r_k with g_k the milli of one pod: fills stay comparable while the fleet runs full.
Everyone starts at 1: served as asked.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.fleet import CARD_MILLI, Int
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.values import LEVEL_MILLI, Float, fill, least_point, value_all

STEP = 0.005
"""A short constant step: shapes that seldom come are bought by whole node kinds at once, and long steps let their
bids swing."""
LEAST_FILL = 0.2
"""Bids stay below 5 times the worth of a pod, however starved its shape is."""


@finite_kernel
def clear(
    shapes: Arrays, fleet: Arrays, arrived: Float, grid: Arrays, tables: Arrays, kept: Arrays, steps: int
) -> None:
    """`steps` Frank–Wolfe steps from the fills kept so far; then tables and values are those of the last bids.

    `arrived` (K,) counts pods so far, refused ones too. `kept` is (fill, bid, vectors, free, value).
    """
    filled, bid, vectors, free, value = kept
    card, group, _, size_by, size_chosen, _, group_by, group_chosen = tables
    chosen = (size_by, size_chosen, group_by, group_chosen)
    slots = _slots_of_money(shapes, fleet[2], arrived)
    used = np.zeros(bid.size)
    for _ in range(steps):
        for shape in range(bid.size):
            bid[shape] = shapes[2][shape] * shapes[3][shape] / max(filled[shape], LEAST_FILL)
            if arrived[shape] == 0:
                bid[shape] = 0.0
        fill(shapes, bid, grid, tables)
        value_all(fleet, grid, card, group, vectors, free, value)
        _answer(fleet, vectors, free, chosen, used)
        for shape in range(bid.size):
            if bid[shape] > 0.0:
                filled[shape] += STEP * (used[shape] / slots[shape] - filled[shape])


@finite_kernel
def _slots_of_money(shapes: Arrays, card_left: Int, arrived: Float) -> Float:
    """D (K,): pods of each shape if the free milli were sold in the proportions of the arrived milli."""
    asked, free, slots = 0.0, 0.0, np.zeros(arrived.size)
    for shape in range(arrived.size):
        asked += arrived[shape] * shapes[2][shape] * shapes[3][shape]
    for left in card_left.flat:
        free += left
    for shape in range(arrived.size):
        slots[shape] = arrived[shape] * max(free, LEVEL_MILLI) / max(asked, 1.0)
    return slots


@finite_kernel
def _answer(fleet: Arrays, vectors: Float, free: Int, chosen: Arrays, used: Float) -> None:
    """Add up, per shape, the slots that every node's best filling uses, at the node's own prices."""
    used[:] = 0.0
    card_left, cards, model = fleet[2], fleet[3], fleet[4]
    size_by, size_chosen, group_by, group_chosen = chosen
    for node in range(cards.size):
        q, kind = least_point(vectors[node]), model[node]
        single = _answer_groups(group_by[kind, :, q], group_chosen[kind, :, q], free[node], used)
        for card in range(cards[node]):
            left = card_left[node, card]
            if left == CARD_MILLI:
                single -= 1
                if single < 0:
                    continue
            _answer_card(size_by[kind, :, q], size_chosen[kind, :, q], left // LEVEL_MILLI, used)


@finite_kernel
def _answer_groups(by: Int, chosen: Int, free: int, used: Float) -> int:
    """Pods of several cards; how many whole cards are left to be filled by themselves."""
    single = 0
    while free > 0:
        count = chosen[free]
        if count == 1:
            single += 1
        else:
            used[by[count]] += 1.0
        free -= count
    return single


@finite_kernel
def _answer_card(by: Int, chosen: Int, level: int, used: Float) -> None:
    while level > 0 and chosen[level] > 0:
        used[by[chosen[level]]] += 1.0
        level -= chosen[level]
