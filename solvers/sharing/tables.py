"""What the bids pay for a part of a card and for whole cards: exact dynamic programmes over a grid of prices.

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
    """(card, group, brought by the best pod for each place), for `fill`. Places are as `places` tells."""
    counts = LEVELS, most_cards, LEVELS + most_cards
    return tuple(np.zeros((models, count + 1, points)) for count in counts)


@finite_kernel
def fill(shapes: Arrays, place: Int, first: Int, bid: Float, grid: Arrays, tables: Arrays) -> None:
    """Write all tables for these bids (K,); shapes that bid 0 count for nothing. `first` as `rivals` tells."""
    card, group, brings = tables
    _bring(shapes, place, first, bid, grid, brings)
    clearly = CLEARLY * bid.max()
    for model in range(card.shape[0]):
        _fill_card(card[model], brings[model], clearly)
        _fill_groups(group[model], card[model, LEVELS], brings[model])


@finite_kernel
def places(shapes: Arrays, most_cards: int) -> Int:
    """(K,) what a pod takes: so many levels of a card; or LEVELS and as many as it takes cards, if these are
    several. 0 if it takes no GPU, or more cards than a node has.
    """
    gpus, gpu_milli = shapes[2], shapes[3]
    place = np.zeros(gpus.size, dtype=np.int64)
    for shape in range(gpus.size):
        if gpus[shape] == 1:
            place[shape] = -(-gpu_milli[shape] // LEVEL_MILLI)
        elif 1 < gpus[shape] <= most_cards:
            place[shape] = LEVELS + gpus[shape]
    return place


@finite_kernel
def rivals(accepted: Bool, place: Int) -> Int:
    """(K,) the first shape that accepts the same models and takes the same place."""
    first = np.arange(place.size)
    for shape in range(place.size):
        for other in range(shape):
            alike = first[other] == other and place[other] == place[shape]
            if alike and (accepted[other] == accepted[shape]).all():
                first[shape] = other
                break
    return first


@finite_kernel
def surplus(bid: float, cpu: int, memory: int, cpu_price: float, memory_price: float) -> float:
    """What is left of a bid when CPU and memory are paid."""
    return bid - cpu_price * cpu - memory_price * memory


@finite_kernel
def _bring(shapes: Arrays, place: Int, first: Int, bid: Float, grid: Arrays, brings: Float) -> None:
    cpu, memory, _, _, accepted = shapes
    cpu_price, memory_price = grid
    best = np.zeros((bid.size, cpu_price.size))
    for shape in range(bid.size):
        if bid[shape] > 0.0 and place[shape] > 0:
            to = first[shape]
            for q in range(cpu_price.size):
                own = surplus(bid[shape], cpu[shape], memory[shape], cpu_price[q], memory_price[q])
                best[to, q] = max(best[to, q], own)
    brings.fill(0.0)
    for shape in range(bid.size):
        if first[shape] == shape and place[shape] > 0:
            _meet(best[shape], accepted[shape], place[shape], brings)


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
            if brings[LEVELS + count].max() > 0.0:
                for q in range(group.shape[1]):
                    group[free, q] = max(group[free, q], brings[LEVELS + count, q] + group[free - count, q])
