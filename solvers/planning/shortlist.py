"""The choices that a search looks at: of gangs with very many, those that would cost least in an empty fleet.

A gang that limits its RTT may stand around any of hundreds of sites, and trying them all takes most of the time of
a search, though it hardly ever stands at one of the dearest. Bounds and first plans look at all of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, leaf
from solvers.planning.cheapest import cheapest
from solvers.planning.choices import C_FIRST, C_LAST, Choices
from solvers.planning.places import NOT_KEPT, blocks
from solvers.planning.prepare import Prepared
from solvers.planning.relaxed_market import Market
from solvers.planning.side_by_side import in_ranges

Int = NDArray[np.int64]
Float = NDArray[np.float64]

MANY, MANY_ALONE = 24, 96
"""Choices kept of one shape: such that join several segments, which take long to search, and such of a single
one.
"""
DEAREST = 1.5
"""Choices that cost so many times what their gangs are worth are left out, if there are many."""


def shortlist(prepared: Prepared, market: Market, likely: NDArray[np.bool_] | None = None) -> Choices:
    """The choices of `prepared.placed`, but for shapes with more than MANY only the cheapest at market prices.

    `likely` (gangs,): whom a short search will try to place; shapes of others keep all choices. None: everybody.
    """
    choices, value = prepared.placed, prepared.value
    of_shape = np.diff(choices.first)
    shape = np.repeat(np.arange(of_shape.size), of_shape)
    many = of_shape > MANY
    if likely is not None:
        many &= np.bincount(prepared.shapes.of_gang[likely], minlength=many.size) > 0
    gang_of_shape = np.full(of_shape.size, -1, dtype=np.int64)
    by_value = np.argsort(value, kind="stable")
    gang_of_shape[prepared.shapes.of_gang[by_value]] = by_value  # whose value is the largest
    cost = costs_of_choices(prepared, market, np.where(many, gang_of_shape, -1))
    ranked = np.flatnonzero(many[shape])
    order = ranked[np.lexsort((cost[ranked], shape[ranked]))]
    rank = np.empty(shape.size, dtype=np.int64)
    rank[order] = ranked - choices.first[shape[ranked]]
    lists = choices.table[ranked, C_LAST] - choices.table[ranked, C_FIRST]
    listed = ~many[shape]
    listed[ranked] = np.isfinite(cost[ranked]) & (rank[ranked] < np.where(lists > 1, MANY, MANY_ALONE))
    kept = np.flatnonzero(listed)
    first = np.searchsorted(shape[kept], np.arange(of_shape.size + 1))
    return replace(choices, first=first, table=np.ascontiguousarray(choices.table[kept]))


def costs_of_choices(prepared: Prepared, market: Market, gang_of_shape: Int) -> Float:
    """What the gang of each shape would pay in each choice at market prices, (choices,).

    inf if that is far too much, or if so many choices that come first cost no more that this one is none of those
    to be kept; inf also for shapes without a gang (-1).
    """
    choices = prepared.placed
    cost = np.full(choices.table.shape[0], np.inf)

    def part(begin: int, end: int) -> None:
        # Blocks of its own: while one thread counts what is free in a block, another could take it for full.
        slots = market.dual.walk[:3]
        walk = *slots, *blocks(slots[0].size), *NOT_KEPT
        price_choices(
            begin, end, gang_of_shape, DEAREST * prepared.value, choices.first.copy(), prepared.gangs,
            prepared.shape_arrays(choices), prepared.supply, walk, prepared.room, market.dual.price,
            prepared.work(), MANY, np.empty(MANY_ALONE), cost,
        )  # fmt: skip

    in_ranges(gang_of_shape.size, part)
    return cost


@leaf
def price_choices(
    begin: int, end: int, gang_of_shape: Int, most: Float, first: Int, gangs: Arrays, shapes: Arrays,
    supply: Arrays, walk: Arrays, room: Arrays, price: Float, work: Arrays, many: int, least: Float, cost: Float,
) -> None:  # fmt: skip
    """See `costs_of_choices`, for shapes in [begin, end). `first`: a copy of its own, mutated.

    Kept are as many as `least`, scratch, has room for; of shapes without a choice of a single segment `many`.
    """
    all_first, table, segments, masks, bits = shapes
    for shape in range(begin, end):
        gang = gang_of_shape[shape]
        if gang < 0:
            continue
        kept, listed = many, 0
        for choice in range(all_first[shape], all_first[shape + 1]):
            if table[choice, C_LAST] - table[choice, C_FIRST] <= 1:
                kept = least.size
                break
        limit = most[gang]
        for choice in range(all_first[shape], all_first[shape + 1]):
            first[shape], first[shape + 1] = choice, choice + 1
            one = first, table, segments, masks, bits
            cost[choice] = cheapest(gang, gangs, one, supply, walk, room, price, limit, work)[0]
            if cost[choice] < limit:
                listed = min(listed + 1, kept)
                sort_in(cost[choice], least[:listed])
                if listed == kept:
                    limit = least[kept - 1]


@leaf
def sort_in(value: float, rising: Float) -> None:
    """Put a value into its place among rising ones, whose last one is overwritten."""
    at = rising.size - 1
    while at > 0 and rising[at - 1] > value:
        rising[at] = rising[at - 1]
        at -= 1
    rising[at] = value
