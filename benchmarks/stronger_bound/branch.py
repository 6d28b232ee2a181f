"""Branch and bound over the large gangs of one block, best bound first.

A leaf has decided of some gangs whether they are served. Its prices are those of its parent or of the relaxed
market cleared anew, with those gangs in or out, whichever prove more; the bound of a block is the largest of its
open leaves. A branch takes the gang, of a few large ones with almost no surplus at the leaf's prices, both of
whose sides lower the bound most. The root's prices and fees are those of `columns`; every leaf has its fees.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.stronger_bound.blocks import FREE, IN, OUT, Block, Value
from benchmarks.stronger_bound.columns import Columns, Point
from solvers.planning.clearing import clearing_prices
from solvers.planning.pairs import pairs_of

Int = NDArray[np.int64]
Float = NDArray[np.float64]

ROOT_ROUNDS = 24
TRIED = 4
"""Gangs whose sides are both bounded before one is branched on."""
UNDECIDED = 0.05
"""Of its worth: a gang with more surplus or lack than that is no candidate."""
CLOSENESS = 0.01
"""Worth counts e times less for each so much of it that a candidate's surplus or lack is."""


class Leaf(NamedTuple):
    """`decided` (gangs,): FREE, IN or OUT."""

    point: Point
    decided: Int


class Market:
    """The relaxed market of a block, to be cleared for one leaf after the other."""

    def __init__(self, block: Block) -> None:
        prepared = block.prepared
        self.block, self.gpus = block, prepared.problem.gangs.gpus.copy()
        self.each = np.maximum(block.worth, 0.0) / self.gpus
        self.gpus[block.buyer] = block.most
        self.each[block.buyer] = [
            _last(pays, prepared.capacity, most)
            for pays, most in zip(block.pays, block.most.tolist(), strict=True)
        ]
        most = np.zeros(prepared.shapes.table.shape[0])
        np.maximum.at(most, prepared.shapes.of_gang, self.each)
        self.first, self.rows = pairs_of(prepared, most)
        self.supply_before = np.append(0, np.cumsum(prepared.capacity))

    def prices(self, fee: Float, decided: Int) -> Float:
        """Row prices where gangs pay fees of their own, (gangs,), and those that are IN outbid everybody."""
        prepared = self.block.prepared
        each = np.maximum(self.each - fee / self.gpus, 0.0)
        each[decided == IN] = 2 * each.max(initial=1.0)
        wanting = np.flatnonzero((each >= 1) & (decided != OUT))
        rows = prepared.rows
        return clearing_prices(
            self.first,
            self.rows.copy(),
            prepared.shapes.of_gang[wanting],
            self.gpus[wanting],
            each[wanting].astype(np.int64),
            rows.start,
            rows.ask,
            self.supply_before,
        )


def _last(pays: Float, capacity: Int, most: int) -> float:
    """What a buyer pays for its last GPU where it pays least; 0 if it may buy nothing."""
    slots = np.flatnonzero(pays > 0)
    slots = slots[np.argsort(pays[slots], kind="stable")]
    if slots.size == 0:
        return 0.0
    last = int(np.searchsorted(np.cumsum(capacity[slots]), most))
    return float(pays[slots[min(last, slots.size - 1)]])


@dataclass
class Tree:
    """The open leaves of a block. `curve`: (leaves bounded so far, bound), the first at the market's prices."""

    block: Block
    market: Market = field(init=False)
    columns: Columns = field(init=False)
    leaves: list[tuple[float, int, Leaf]] = field(init=False, default_factory=list)
    curve: list[tuple[int, float]] = field(init=False)
    bounded: int = field(init=False, default=1)
    numbers: Iterator[int] = field(init=False, default_factory=count)

    def __post_init__(self) -> None:
        self.columns, self.market = Columns(self.block), Market(self.block)
        start, free = self.columns.first_point(), np.full(self.block.gang.size, FREE)
        self.curve = [(0, start.bound)]
        root = self.columns.improve(start, ROOT_ROUNDS)
        self._put(Leaf(self._cleared(root, free), free))

    @property
    def bound(self) -> float:
        """No plan of the block is worth more."""
        return -self.leaves[0][0] if self.leaves else -np.inf

    def grow(self, leaves: int) -> None:
        """Branch until so many leaves were bounded, or nothing is left to branch on."""
        while self.bounded < leaves and self.leaves:
            leaf = self.leaves[0][2]
            sides = self._branches(leaf)
            if sides is None:
                break
            heapq.heappop(self.leaves)
            for side in sides:
                if np.isfinite(side.point.bound):
                    self._put(side)
            self.curve.append((self.bounded, self.bound))

    def _branches(self, leaf: Leaf) -> tuple[Leaf, Leaf] | None:
        """Both sides of the candidate that gains most (the product of both gains); None if there is none."""
        worth = self.block.worth
        away = np.abs(leaf.point.surplus) / np.maximum(worth, 1.0)
        candidates = np.flatnonzero((leaf.decided == FREE) & (worth > 0) & (away < UNDECIDED))
        score = worth[candidates] * np.exp(-away[candidates] / CLOSENESS)
        best: tuple[float, tuple[Leaf, Leaf]] | None = None
        for gang in candidates[np.argsort(-score, kind="stable")[:TRIED]].tolist():
            sides = self._decide(leaf, gang, IN), self._decide(leaf, gang, OUT)
            gains = [max(leaf.point.bound - side.point.bound, 1.0) for side in sides]
            if best is None or gains[0] * gains[1] > best[0]:
                best = gains[0] * gains[1], sides
        return None if best is None else best[1]

    def _decide(self, leaf: Leaf, gang: int, side: int) -> Leaf:
        decided = leaf.decided.copy()
        decided[gang] = side
        self.bounded += 1
        same = self.block.value(leaf.point.row_price, leaf.point.fee, decided)
        point = leaf.point._replace(bound=min(leaf.point.bound, same.bound), surplus=same.surplus)
        return Leaf(self._cleared(point, decided), decided)

    def _cleared(self, point: Point, decided: Int) -> Point:
        """The better of a point and the prices of the market cleared at its fees."""
        before = self.block.value(point.row_price, point.fee, decided)
        price = self._clear(before, point.fee, decided)
        value = self.block.value(price, point.fee, decided)
        return Point(value.bound, price, point.fee, value.surplus) if value.bound < point.bound else point

    def _clear(self, value: Value, fee: Float, decided: Int | None = None) -> Float:
        """Row prices of the market where every gang pays the fees of the bid that it prefers in `value`."""
        fees = np.append(self.block.seats.fees(fee, self.block.bids.gang.size), 0.0)
        free = np.full(self.block.gang.size, FREE)
        return self.market.prices(fees[value.bid], free if decided is None else decided)

    def _put(self, leaf: Leaf) -> None:
        heapq.heappush(self.leaves, (-leaf.point.bound, next(self.numbers), leaf))
        if len(self.curve) == 1:
            self.curve.append((1, self.bound))
