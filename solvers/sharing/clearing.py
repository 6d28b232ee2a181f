"""The market for what is free: slots that each shape's money buys, by Frank–Wolfe steps.

    maximise Σ_k b_k·log x_k,  x in the set of slot counts that fit into the free fleet

The gradient at x is the bid w_k = b_k/x_k; the fleet's best answer to the bids is a vertex (each node takes its
own best filling, `solvers.sharing.answer`); x moves by `STEP` towards it. Kept per shape is the fill
r_k = x_k/D_k, D_k being the slots its money would buy if all that is free were sold in the proportions of what has
arrived, so that w_k = g_k/r_k with g_k the money of one pod: fills stay comparable while the fleet runs full.
Everyone starts at 1: served as asked.
"""

from __future__ import annotations

import numpy as np

from solvers.sharing.answer import answer, sellers
from solvers.sharing.columns import empty_columns
from solvers.sharing.fleet import Int
from solvers.sharing.kernels import Arrays, finite_kernel
from solvers.sharing.tables import LEVEL_MILLI, Float, empty_tables, fill, places, rivals

STEP = 0.01
"""A short constant step: shapes that seldom come are bought by whole node kinds at once, and long steps let their
bids swing."""
LEAST_FILL = 0.2
"""Bids stay below 5 times the worth of a pod, however starved its shape is."""


def empty_market(models: int, most_cards: int, points: int) -> tuple[Arrays, Arrays]:
    """(tables, columns) for `clear`."""
    return empty_tables(models, most_cards, points), empty_columns(models, most_cards, points)


@finite_kernel
def clear(
    shapes: Arrays,
    fleet: Arrays,
    arrived: Float,
    pays: Float,
    grid: Arrays,
    market: Arrays,
    filled: Float,
    bid: Float,
    steps: int,
) -> None:
    """`steps` Frank–Wolfe steps from the fills kept so far; then tables are those of the last bids.

    `arrived` (K,) counts pods so far, refused ones too; `pays` (K,) is the money of one, its GPU milli if all pay
    alike. `filled` and `bid` (K,) are changed, and `market` as `empty_market` tells.
    """
    tables, columns = market
    slots = _slots_of_money(shapes, fleet[2], fleet[7], arrived)
    place, selling = places(shapes, tables[1].shape[1] - 1), sellers(fleet)
    first = rivals(shapes[4], place)
    for _ in range(steps):
        for shape in range(bid.size):
            bid[shape] = pays[shape] / max(filled[shape], LEAST_FILL)
            if arrived[shape] == 0:
                bid[shape] = 0.0
        fill(shapes, place, first, bid, grid, tables)
        columns[-1].fill(False)
        used = answer(shapes, place, bid, fleet, grid, tables, columns, selling)
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
