"""The smallest violators: rows of one shape that more GPUs are wanted of than exist, by gangs that depend on them.

Gangs count if they are worth at least as much per GPU as the refused one, free GPUs if they ask at most its
bid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel
from solvers.planning.nest import Market, grouped

Int = NDArray[np.int64]
Int32 = NDArray[np.int32]

ROWS_MOST = 512
"""Shapes with more rows are looked for in components only: their own rows are hardly ever short by themselves."""


@dataclass(frozen=True, slots=True)
class Dependents:
    """To find shapes whose rows lie in given rows: `shape[first[r]:first[r + 1]]` are those whose last row is r.

    Competing gangs of shape s are `gang[gang_first[s]:gang_first[s + 1]]`.
    """

    shape: Int
    first: Int
    gang: Int
    gang_first: Int


def dependents_of(market: Market) -> Dependents:
    """Index the shapes of competing gangs by their last row."""
    shapes = market.shapes
    competing = np.flatnonzero(market.demand > 0)
    shape = shapes.of_gang[competing]
    active = np.unique(shape)
    by_row = grouped(shapes.rows[shapes.first[active + 1] - 1], active, market.capacity.size)
    return Dependents(*by_row, *grouped(shape, competing, shapes.first.size - 1))


def gangs_within(market: Market, dependents: Dependents, shape: int) -> Int:
    """The competing gangs that depend on the rows of a shape, ascending."""
    shapes = market.shapes
    rows = shapes.rows[shapes.first[shape] : shapes.first[shape + 1]]
    within = shapes_within(shapes.bits, shape, rows, shapes.first, shapes.rows, dependents.first, dependents.shape)
    begin, end = dependents.gang_first[within], dependents.gang_first[within + 1]
    return np.sort(np.concatenate([dependents.gang[b:e] for b, e in zip(begin, end, strict=True)]))


@kernel
def shapes_within(
    bits: NDArray[np.uint64], shape: int, mine: Int32, first: Int, rows: Int32, under_first: Int, under: Int
) -> Int:
    """The shapes under some rows, `mine`, that lie in `shape`, whose rows these are."""
    found, count = np.empty(first.size - 1, dtype=np.int64), 0
    for row in mine:
        for other in under[under_first[row] : under_first[row + 1]]:
            if is_subset(bits[other], bits[shape], rows[first[other]] >> 6, row >> 6):
                found[count] = other
                count += 1
    return found[:count]


def own_rows(market: Market, dependents: Dependents, refused: Int) -> Int:
    """What exists on the own rows of each refused gang, (refused,) GPUs, if they are a violator, else -1."""
    shapes, rows = market.shapes, market.rows
    return own_rows_short(
        refused, shapes.of_gang, shapes.first, shapes.rows, shapes.bits,
        dependents.first, dependents.shape, dependents.gang_first, dependents.gang,
        market.demand, market.value, market.capacity, rows.start, rows.ask, market.free_before,
    )  # fmt: skip


@kernel
def own_rows_short(
    refused: Int,
    of_gang: Int,
    first: Int,
    rows: Int32,
    bits: NDArray[np.uint64],
    under_first: Int,
    under: Int,
    gang_first: Int,
    by_shape: Int,
    demand: Int,
    value: Int,
    capacity: Int,
    start: Int,
    ask: Int,
    free_before: Int,
) -> Int:
    """See `own_rows`; `under_first` to `by_shape` are the columns of `Dependents`."""
    found = np.full(refused.size, -1, dtype=np.int64)
    for i in range(refused.size):
        gang, shape = refused[i], of_gang[refused[i]]
        if first[shape + 1] - first[shape] > ROWS_MOST:
            continue
        wanted, existing = np.int64(0), np.int64(0)
        for at in range(first[shape], first[shape + 1]):
            row = rows[at]
            dear = start[row] + np.searchsorted(ask[start[row] : start[row + 1]], value[gang], side="right")
            existing += capacity[row] - (free_before[start[row + 1]] - free_before[dear])
            for k in range(under_first[row], under_first[row + 1]):
                other = under[k]
                if is_subset(bits[other], bits[shape], rows[first[other]] >> 6, row >> 6):
                    for member in by_shape[gang_first[other] : gang_first[other + 1]]:
                        wanted += demand[member] if value[member] >= value[gang] else 0
        if wanted > existing:
            found[i] = existing
    return found


@kernel
def is_subset(few: NDArray[np.uint64], many: NDArray[np.uint64], first_word: int, last_word: int) -> bool:
    """Whether all bits of `few`, which lie in the given words, are in `many`."""
    word = first_word
    while word <= last_word and not few[word] & ~many[word]:
        word += 1
    return word > last_word
