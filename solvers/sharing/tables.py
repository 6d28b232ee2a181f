"""What the bids of shapes pay for a part of a card and for whole cards: exact dynamic programmes over a price grid.

Grid point q prices a milli-CPU at `cpu_price[q]` and a MiB at `memory_price[q]`. With those paid, shape k brings
its surplus w_k − α·c_k − β·m_k. Per GPU model and grid point:

    card[r]  = most surplus that fits on r/LEVELS of a card (parts, or one pod that takes all of it)
    group[f] = most that f whole cards bring: pods of several cards, or each card by itself

Parts round up to a level, what is left rounds down, so no value is promised that does not fit. Who brings it is
told by `solvers.sharing.columns`, for the few grid points where somebody asks.

Tables are filled at every step of a clearing, so what cannot change them is left out: shapes that accept the same
models and take the same place meet first, and only the best of them meets the others; a size that brings clearly
less than smaller ones in its place is skipped. Columns are filled `ABREAST`, on a copy that stays in the cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.sharing.fleet import CARD_MILLI, Bool, Int
from solvers.sharing.kernels import Arrays, finite_kernel

Float = NDArray[np.float64]

LEVELS = 100
LEVEL_MILLI = CARD_MILLI // LEVELS
ABREAST = 4
CLEARLY = 1e-9
"""Share of the highest bid that is far above all rounding of a table's sums."""


def empty_tables(models: int, most_cards: int, points: int) -> Arrays:
    """(card, group, brought by one pod of a size, brought by one pod of so many cards), for `fill`."""
    counts = LEVELS, most_cards, LEVELS, most_cards
    return tuple(np.zeros((models, count + 1, points)) for count in counts)


@finite_kernel
def fill(shapes: Arrays, first: Int, bid: Float, grid: Arrays, tables: Arrays) -> None:
    """Write all tables for these bids (K,); shapes that bid 0 count for nothing. `first` as `rivals` tells."""
    card, group, size_brings, group_brings = tables
    _bring(shapes, first, bid, grid, size_brings, group_brings)
    clearly = CLEARLY * bid.max()
    for model in range(card.shape[0]):
        _fill_card(card[model], size_brings[model], clearly)
        _fill_groups(group[model], card[model, LEVELS], group_brings[model])


@finite_kernel
def rivals(shapes: Arrays) -> Int:
    """(K,) the first shape that accepts the same models and takes as many cards, or as much of one."""
    _, _, gpus, gpu_milli, accepted = shapes
    first = np.arange(gpus.size)
    for shape in range(gpus.size):
        for other in range(shape):
            alike = (first[other] == other) & (gpus[other] == gpus[shape]) & (gpu_milli[other] == gpu_milli[shape])
            if alike and np.array_equal(accepted[other], accepted[shape]):
                first[shape] = other
                break
    return first


@finite_kernel
def place_of(gpus: int, gpu_milli: int) -> int:
    """Levels of a card that a pod takes, or its cards if it takes several."""
    return gpus if gpus > 1 else -(-gpu_milli // LEVEL_MILLI)


@finite_kernel
def surplus(bid: float, cpu: int, memory: int, cpu_price: float, memory_price: float) -> float:
    """What is left of a bid when CPU and memory are paid."""
    return bid - cpu_price * cpu - memory_price * memory


@finite_kernel
def _bring(shapes: Arrays, first: Int, bid: Float, grid: Arrays, size_brings: Float, group_brings: Float) -> None:
    cpu, memory, gpus, gpu_milli, accepted = shapes
    cpu_price, memory_price = grid
    best = np.zeros((bid.size, cpu_price.size))
    for shape in range(bid.size):
        if bid[shape] > 0.0:
            to = first[shape]
            for q in range(cpu_price.size):
                own = surplus(bid[shape], cpu[shape], memory[shape], cpu_price[q], memory_price[q])
                best[to, q] = max(best[to, q], own)
    size_brings.fill(0.0)
    group_brings.fill(0.0)
    for shape in range(bid.size):
        if first[shape] == shape:
            brings, place = group_brings if gpus[shape] > 1 else size_brings, place_of(gpus[shape], gpu_milli[shape])
            if place < brings.shape[1]:
                _meet(best[shape], accepted[shape], place, brings)


@finite_kernel
def _meet(best: Float, accepted: Bool, place: int, brings: Float) -> None:
    for model in range(accepted.size):
        if accepted[model]:
            for q in range(best.size):
                brings[model, place, q] = max(brings[model, place, q], best[q])


@finite_kernel
def _fill_card(card: Float, brings: Float, clearly: float) -> None:
    """Unbounded knapsack, one size after the other: card[r] over what fits into r levels."""
    points = card.shape[1]
    column, own = np.zeros((LEVELS + 1, ABREAST)), np.zeros(ABREAST)
    sizes = np.array([size for size in range(1, LEVELS + 1) if brings[size].max() > 0.0])
    for start in range(0, points, ABREAST):
        width = min(ABREAST, points - start)
        column.fill(0.0)
        for size in sizes:
            counts = False
            for q in range(width):
                own[q] = brings[size, start + q]
                counts |= (own[q] > 0.0) & (own[q] > column[size, q] - clearly)
            if counts:
                for left in range(size, LEVELS + 1):
                    for q in range(ABREAST):
                        column[left, q] = max(column[left, q], own[q] + column[left - size, q])
        for left in range(LEVELS + 1):
            for q in range(width):
                card[left, start + q] = column[left, q]


@finite_kernel
def _fill_groups(group: Float, whole_card: Float, brings: Float) -> None:
    """group[f] = max over pods of n ≤ f cards of brings[n] + group[f − n], and a card by itself."""
    for free in range(1, group.shape[0]):
        for q in range(group.shape[1]):
            group[free, q] = group[free - 1, q] + whole_card[q]
        for count in range(2, free + 1):
            if brings[count, 0] > 0.0 or brings[count].max() > 0.0:
                for q in range(group.shape[1]):
                    group[free, q] = max(group[free, q], brings[count, q] + group[free - count, q])
