"""Markets: which shapes compete with each other at one price, and how they grow together.

A gang looks for the cheapest of its rows: that is its price level. Shapes are cut down to their rows at that
level; everything else they may use is dearer. Then they are activated one by one, narrow ones first, and the rows
they share join them, as in single-linkage clustering. The components form a forest of nested sets, and each is
closed: all rows of its shapes at their level are in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel
from solvers.planning.fold import Rows, Shapes
from solvers.planning.side_by_side import in_ranges

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Int32 = NDArray[np.int32]

PRICE_STEP = 0.05
"""Prices whose logarithms fall into the same step of this width are one level."""


@dataclass(frozen=True, slots=True)
class Market:
    """Who competes for what. `demand` (gangs,): GPUs wanted beyond pinned ones, 0 for gangs that do not compete.

    `value` (gangs,) micro-USD per GPU-hour; `free_before` (slots + 1,): running sum of GPUs the plan leaves free;
    `capacity` (rows,): GPUs; all of these in units of `Problem.milli`; `price` (rows,): least price of a node,
    micro-USD per GPU-hour. Who stands in row r, a gang per node: `occupant[first_occupant[r]:first_occupant[r +
    1]]`, with `occupant_gpus`.
    """

    rows: Rows
    shapes: Shapes
    demand: Int
    value: Int
    free_before: Int
    capacity: Int
    price: Float
    first_occupant: Int
    occupant: Int
    occupant_gpus: Int

    def standing_on(self, rows: Int) -> Int:
        """The gangs that stand in some rows, ascending."""
        return np.flatnonzero(stands_on(rows, self.first_occupant, self.occupant, self.demand.size))


@dataclass(frozen=True, slots=True)
class Nest:
    """The forest of components: one node per activated shape, which joins what its rows touch.

    Nodes are numbered depth first, so that node i with all that is below it is [i, `end`[i]). `node_of_shape`: -1
    if nobody competes in it. `parent` (nodes,): -1 for roots. `rows` and `gangs` stand by node; those of node i
    begin at `first_row`[i] and `first_gang`[i].
    """

    node_of_shape: Int
    parent: Int
    end: Int
    rows: Int
    first_row: Int
    gangs: Int
    first_gang: Int

    def component(self, node: int) -> tuple[Int, Int]:
        """(gangs, rows) of a node and all below it."""
        end = self.end[node]
        return (
            self.gangs[self.first_gang[node] : self.first_gang[end]],
            self.rows[self.first_row[node] : self.first_row[end]],
        )


def at_own_price(market: Market) -> tuple[Market, Int]:
    """The market at the price level of each shape, and what else a shape may use costs at least, (shapes,).

    That is micro-USD per GPU-hour, -1 where there is nothing else. Demand is without what stands on dearer rows.
    Of the shapes `first` and `rows` are cut down, `bits` are not.
    """
    shapes = market.shapes
    level_of_row = np.floor(np.log(np.maximum(market.price, 1.0)) / PRICE_STEP)
    level, width = np.empty(shapes.first.size - 1), np.empty(shapes.first.size - 1, dtype=np.int64)
    listed = shapes.first, shapes.rows, level_of_row
    in_ranges(width.size, lambda begin, end: cheapest_rows(begin, end, *listed, level, width))
    first = np.append(0, np.cumsum(width))
    kept = np.empty(first[-1], dtype=np.int32)
    in_ranges(width.size, lambda begin, end: rows_at_level(begin, end, *listed, level, first, kept))
    elsewhere = np.full(level.size, -1, dtype=np.int64)
    cut = width < np.diff(shapes.first)
    elsewhere[cut] = np.floor(np.exp((level[cut] + 1) * PRICE_STEP))
    dearer = np.repeat(level_of_row, np.diff(market.first_occupant)) > level[shapes.of_gang[market.occupant]]
    demand = market.demand.copy()
    np.subtract.at(demand, market.occupant[dearer], market.occupant_gpus[dearer])
    return replace(market, shapes=replace(shapes, first=first, rows=kept), demand=demand), elsewhere


def nest_of(market: Market) -> Nest:
    """Activate the shapes of competing gangs, narrow ones first."""
    shapes = market.shapes
    competing = np.flatnonzero(market.demand > 0)
    width = np.diff(shapes.first)
    active = np.unique(shapes.of_gang[competing])
    chosen = active[np.argsort(width[active], kind="stable")]
    owner, parent = joined(chosen, shapes.first, shapes.rows, market.capacity.size)
    number, end = depth_first(parent)
    node_of_shape = np.full(width.size, -1, dtype=np.int64)
    node_of_shape[chosen] = number
    above = np.empty_like(parent)
    above[number] = np.where(parent >= 0, number[parent], -1)
    touched = np.flatnonzero(owner >= 0)
    rows, first_row = grouped(number[owner[touched]], touched, chosen.size)
    gangs, first_gang = grouped(node_of_shape[shapes.of_gang[competing]], competing, chosen.size)
    return Nest(node_of_shape, above, end, rows, first_row, gangs, first_gang)


def grouped(group: NDArray[Any], values: Int, groups: int) -> tuple[Int, Int]:
    """(values by group, where each of `groups` groups begins and the last ends)."""
    order = np.argsort(group, kind="stable")
    return values[order], np.searchsorted(group[order], np.arange(groups + 1))


@kernel
def stands_on(rows: Int, first: Int, occupant: Int, gangs: int) -> NDArray[np.bool_]:
    """Whether each of so many gangs stands in one of the rows; `first` and `occupant` as in `Market`."""
    stands = np.zeros(gangs, dtype=np.bool_)
    for row in rows:
        for gang in occupant[first[row] : first[row + 1]]:
            stands[gang] = True
    return stands


@kernel
def cheapest_rows(
    begin: int, end: int, first: Int, rows: Int32, level_of_row: Float, least: Float, count: Int
) -> None:
    """The least level among the rows of each shape in [begin, end), inf for none, into `least`; how many of its
    rows have it, into `count`."""
    for shape in range(begin, end):
        least[shape], count[shape] = np.inf, 0
        for row in rows[first[shape] : first[shape + 1]]:
            if level_of_row[row] < least[shape]:
                least[shape], count[shape] = level_of_row[row], 0
            count[shape] += level_of_row[row] == least[shape]


@kernel
def rows_at_level(
    begin: int, end: int, first: Int, rows: Int32, level_of_row: Float, level: Float, kept_first: Int, kept: Int32
) -> None:
    """The rows of each shape in [begin, end) that have its level, into `kept` from `kept_first`[shape] on."""
    for shape in range(begin, end):
        at = kept_first[shape]
        for row in rows[first[shape] : first[shape + 1]]:
            if level_of_row[row] == level[shape]:
                kept[at] = row
                at += 1


@kernel
def joined(chosen: Int, first: Int, rows: Int32, count: int) -> tuple[Int, Int]:
    """Who touched each of `count` rows first, and the next activation that touched what an activation had joined.

    Both are indices into `chosen`, -1 for none. Union-find with path halving; the latest activation is the root.
    """
    owner = np.full(count, -1, dtype=np.int64)
    parent = np.full(chosen.size, -1, dtype=np.int64)
    up = np.arange(chosen.size)
    for i in range(chosen.size):
        for at in range(first[chosen[i]], first[chosen[i] + 1]):
            row = rows[at]
            top = owner[row]
            if top < 0:
                owner[row] = i
                continue
            while up[top] != top:
                up[top] = up[up[top]]
                top = up[top]
            if top != i:
                parent[top] = up[top] = i
    return owner, parent


@kernel
def depth_first(parent: Int) -> tuple[Int, Int]:
    """(number of each node, end of its subtree by number) in a forest whose parents come after their children."""
    size = np.ones_like(parent)
    for node in range(parent.size):
        if parent[node] >= 0:
            size[parent[node]] += size[node]
    number, end, following = np.empty_like(parent), np.empty_like(parent), np.empty_like(parent)
    roots = 0
    for node in range(parent.size - 1, -1, -1):
        if parent[node] < 0:
            number[node] = roots
            roots += size[node]
        else:
            number[node] = following[parent[node]]
            following[parent[node]] += size[node]
        following[node] = number[node] + 1
        end[number[node]] = number[node] + size[node]
    return number, end
