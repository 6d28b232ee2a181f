"""The market for what is free: slots that each shape's money buys, by Frank–Wolfe steps.

    maximise Σ_k b_k·log x_k,  x in the set of slot counts that fit into the free fleet

The gradient at x is the bid w_k = b_k/x_k; the fleet's best answer to the bids is a vertex (each node takes its
own best filling, `solvers.sharing.values`); x moves by `STEP` towards it. Kept per shape is the fill
r_k = x_k/D_k, D_k being the slots its money would buy if all that is free were sold in the proportions of what has
arrived, so that w_k = g_k/r_k with g_k the money of one pod: fills stay comparable while the fleet runs full.
Everyone starts at 1: served as asked.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.fleet import CARD_MILLI, Int
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.values import LEVEL_MILLI, Float, fill, least_point, value_all

STEP = 0.01
"""A short constant step: shapes that seldom come are bought by whole node kinds at once, and long steps let their
bids swing."""
LEAST_FILL = 0.2
"""Bids stay below 5 times the worth of a pod, however starved its shape is."""


@finite_kernel
def clear(
    shapes: Arrays,
    fleet: Arrays,
    arrived: Float,
    pays: Float,
    grid: Arrays,
    tables: Arrays,
    kept: Arrays,
    steps: int,
) -> None:
    """`steps` Frank–Wolfe steps from the fills kept so far; then tables and values are those of the last bids.

    `arrived` (K,) counts pods so far, refused ones too; `pays` (K,) is the money of one, its GPU milli if all pay
    alike. `kept` is (fill, bid, vectors, free, value).
    """
    filled, bid, vectors, free, value = kept
    card, group, _, size_by, size_chosen, _, group_by, group_chosen = tables
    chosen = (size_by, size_chosen, group_by, group_chosen)
    slots = _slots_of_money(shapes, fleet[2], fleet[7], arrived)
    used = np.zeros(bid.size)
    for _ in range(steps):
        for shape in range(bid.size):
            bid[shape] = pays[shape] / max(filled[shape], LEAST_FILL)
            if arrived[shape] == 0:
                bid[shape] = 0.0
        fill(shapes, bid, grid, tables)
        value_all(fleet, grid, card, group, vectors, free, value)
        _answer(shapes, fleet, grid, kept, chosen, used)
        for shape in range(bid.size):
            if bid[shape] > 0.0:
                filled[shape] += STEP * (used[shape] / slots[shape] - filled[shape])


@finite_kernel
def _slots_of_money(shapes: Arrays, card_left: Int, alike: Int, arrived: Float) -> Float:
    """D (K,): pods of each shape if the free milli were sold in the proportions of the arrived milli."""
    asked, free, slots = 0.0, 0.0, np.zeros(arrived.size)
    for shape in range(arrived.size):
        asked += arrived[shape] * shapes[2][shape] * shapes[3][shape]
    for node in range(alike.size):
        free += alike[node] * card_left[node].sum()
    for shape in range(arrived.size):
        slots[shape] = arrived[shape] * max(free, LEVEL_MILLI) / max(asked, 1.0)
    return slots


@finite_kernel
def _answer(shapes: Arrays, fleet: Arrays, grid: Arrays, kept: Arrays, chosen: Arrays, used: Float) -> None:
    """Add up, per shape, the slots of every node's best filling.

    The best filling at one grid price of CPU asks for too much CPU, that at the next one leaves some: between them
    lies the node's true price, and the mixture that uses all of its CPU is the answer.
    """
    used.fill(0.0)
    _, _, vectors, free, value = kept
    for node in range(free.size):
        if value[node] <= 0.0:
            continue
        alike = float(fleet[7][node])
        low = least_point(vectors[node])
        have, low_cpu = float(fleet[0][node]), _filling(shapes, fleet, free, chosen, node, low, 0.0, used)
        high = low + 1 if low_cpu > have else low - 1
        if high < 0 or high >= grid[0].size or grid[1][high] != grid[1][low]:
            _filling(shapes, fleet, free, chosen, node, low, alike, used)
            continue
        high_cpu = _filling(shapes, fleet, free, chosen, node, high, 0.0, used)
        weight = min(max((have - high_cpu) / (low_cpu - high_cpu), 0.0), 1.0) if low_cpu != high_cpu else 1.0
        _filling(shapes, fleet, free, chosen, node, low, alike * weight, used)
        _filling(shapes, fleet, free, chosen, node, high, alike * (1.0 - weight), used)


@finite_kernel
def _filling(
    shapes: Arrays, fleet: Arrays, free: Int, chosen: Arrays, node: int, q: int, weight: float, used: Float
) -> float:
    """Add `weight` times the slots of the node's best filling at a grid point; the CPU that it asks for."""
    size_by, size_chosen, group_by, group_chosen = chosen
    kind, whole, single, cpu = fleet[4][node], free[node], 0, 0.0
    while whole > 0:
        count = group_chosen[kind, whole, q]
        if count == 1:
            single += 1
        else:
            used[group_by[kind, count, q]] += weight
            cpu += shapes[0][group_by[kind, count, q]]
        whole -= count
    for card in range(fleet[3][node]):
        left = fleet[2][node, card]
        if left == CARD_MILLI:
            single -= 1
            if single < 0:
                continue
        level = left // LEVEL_MILLI
        while level > 0 and size_chosen[kind, level, q] > 0:
            shape = size_by[kind, size_chosen[kind, level, q], q]
            used[shape] += weight
            cpu += shapes[0][shape]
            level -= size_chosen[kind, level, q]
    return cpu
