"""Prices and fees of a block by column generation: the linear program over whole placements, with the seats' cuts.

max  Σ_c worth_c·z_c − Σ_ra ask_ra·t_ra
Σ_c gpus_rc·z_c <= Σ_a t_ra                  supply of row r
Σ_c of gang i z_c <= 1                       a column c is one placement of a gang, or what a buyer takes
Σ_c taken_kc·z_c <= seats_k

Its dual variables are prices of rows and fees of seats; the placements that are cheapest at those become columns.
What counts is never the program's optimum (columns may be missing) but `Block.value` at its duals, a bound
whatever they are. So that the duals do not leap, prices stay within a box around the best so far (Marsten's
boxstep): each row may also buy at the box's upper and sell at its lower price, without limit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.stronger_bound.blocks import Block, Value

Int = NDArray[np.int64]
Float = NDArray[np.float64]

NEAR = 0.03
"""Of its worth: a gang that lacks no more to be served has a column made."""
FAR = 0.1
"""Of its worth: columns that much worse than the best of their gang are left out of the program."""
STARTS, NOISE = 12, 0.03
"""Prices whose placements are the first columns: the market's, times e^N(0, NOISE)."""
BOX, BOX_ROUNDS = 0.08, 4
"""By how much prices may leave the best so far, relative: halved when that was no use, and whole again after some
rounds.
"""
CLOSE = 2e-5
"""What a program hopes to win, relative to the bound, for which another round is worth it."""
USD = 1e-6
"""A micro-USD in the unit of the program."""


class Point(NamedTuple):
    """Duals: `bound`, prices of rows, fees of cuts, and the surplus of each gang there."""

    bound: float
    row_price: Float
    fee: Float
    surplus: Float


class Column(NamedTuple):
    """`owner`: a gang, or gangs + the number of a buyer; `bid`: −1 of a buyer."""

    owner: int
    worth: float
    rows: Int
    gpus: Int
    bid: int


class Columns:
    """The columns of a block found so far."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.free = np.zeros(block.gang.size, dtype=np.int64)
        self._columns: list[Column] = []
        self._known: set[tuple[int, bytes, bytes]] = set()
        self._cuts = _by_bid(block)
        rows, gpus = block.prepared.rows, block.prepared.problem.gangs.gpus
        dearest = max((block.worth / gpus).max(initial=0.0), block.pays.max(initial=0.0))
        slots = np.flatnonzero(rows.ask < dearest)
        step, at = np.unique(np.stack([rows.row_of[slots], rows.ask[slots]], axis=1), axis=0, return_inverse=True)
        self._steps = step, np.bincount(at.ravel(), block.prepared.capacity[slots], minlength=step.shape[0])

    def first_point(self) -> Point:
        """At the market's prices, without fees."""
        market, random = self.block.row_price(), np.random.default_rng(0)
        no_fee = np.zeros(self.block.seats.count.size)
        for _ in range(STARTS):
            self._add(self.block.value(market * np.exp(random.normal(0.0, NOISE, market.size)), no_fee, self.free))
        return self._point(market, no_fee)

    def improve(self, point: Point, rounds: int) -> Point:
        """Better duals from `point` on."""
        box = BOX
        for done in range(rounds):
            box = BOX if done % BOX_ROUNDS == 0 else box
            program = self._solve(point, box)
            if program is None or point.bound - program[0] < CLOSE * abs(point.bound):
                break
            hoped, row_price, fee = program
            before = point
            for part in (1.0, 0.4):
                found = self._point(
                    before.row_price + part * (row_price - before.row_price),
                    before.fee + part * (fee - before.fee),
                )
                if found.bound < before.bound:
                    point = found
                    break
            if before.bound - point.bound < 0.1 * (before.bound - hoped):
                box /= 2
        return point

    def _point(self, row_price: Float, fee: Float) -> Point:
        value = self.block.value(row_price, fee, self.free)
        self._add(value)
        return Point(value.bound, row_price, fee, value.surplus)

    def _add(self, value: Value) -> None:
        block, row_of = self.block, self.block.prepared.rows.row_of
        near = np.flatnonzero(value.surplus > -NEAR * np.maximum(block.worth, 0.0))
        bids = value.bid[near]
        placed = block.bids.placements(bids, value.price, value.walk)
        for gang, bid, (slots, gpus) in zip(near.tolist(), bids.tolist(), placed, strict=True):
            self._keep(gang, float(block.worth[gang]), row_of[slots], gpus, bid)
        for number in range(block.buyer.size):
            _, slots, gpus = value.bought[value.bought[:, 0] == number].T
            if slots.size:
                worth = float((block.pays[number, slots] * gpus).sum())
                self._keep(block.gang.size + number, worth, row_of[slots], gpus, -1)

    def _keep(self, owner: int, worth: float, row_of: Int, gpus: Int, bid: int) -> None:
        rows, at = np.unique(row_of, return_inverse=True)
        taken = np.bincount(at, gpus).astype(np.int64)
        key = owner, rows.tobytes(), taken.tobytes()
        if key not in self._known:
            self._known.add(key)
            self._columns.append(Column(owner, worth, rows, taken, bid))

    def _solve(self, point: Point, box: float) -> tuple[float, Float, Float] | None:
        """(optimum, row prices, fees) over the columns near a point; None if HiGHS found none."""
        from scipy.optimize import linprog
        from scipy.sparse import csr_matrix

        columns, block = self._near(point), self.block
        if not columns:
            return None
        rows, cuts, made = block.prepared.rows.start.size - 1, block.seats.count.size, len(columns)
        owners = block.gang.size + block.buyer.size
        step, supply = self._steps
        every = np.arange(rows)
        parts = (
            (_flat(columns, "rows"), _repeated(columns), _flat(columns, "gpus")),
            (step[:, 0], made + np.arange(supply.size), np.full(supply.size, -1.0)),
            (every, made + supply.size + every, np.full(rows, -1.0)),
            (every, made + supply.size + rows + every, np.ones(rows)),
            (rows + np.array([column.owner for column in columns]), np.arange(made), np.ones(made)),
            self._cut_entries(columns, rows + owners),
        )
        line, variable, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
        lines, variables = rows + owners + cuts, made + supply.size + 2 * rows
        matrix: Any = csr_matrix((weight, (line, variable)), shape=(lines, variables))
        worth = np.array([column.worth for column in columns])
        edges = (1 + box) * point.row_price, (box - 1) * point.row_price
        most = np.concatenate([np.ones(made), supply, np.full(2 * rows, np.inf)])
        answer = linprog(
            np.concatenate([-worth, step[:, 1], *edges]) * USD,
            A_ub=matrix,
            b_ub=np.concatenate([np.zeros(rows), np.ones(owners), block.seats.count]),
            bounds=np.stack([np.zeros(variables), most], axis=1),
            method="highs-ipm",
        )
        if answer.status != 0:
            return None
        dual = np.maximum(-answer.ineqlin.marginals / USD, 0.0)
        return -float(answer.fun) / USD, dual[:rows], dual[rows + owners :]

    def _near(self, point: Point) -> list[Column]:
        """Columns that are not far from the best of their gang at the duals of a point."""
        if not self._columns:
            return []
        gangs, bids = self.block.gang.size, self.block.bids.gang.size
        fees = np.append(self.block.seats.fees(point.fee, bids), 0.0)
        owner, bid = (np.array([getattr(one, name) for one in self._columns]) for name in ("owner", "bid"))
        worth = np.array([one.worth for one in self._columns])
        paid = point.row_price[_flat(self._columns, "rows")] * _flat(self._columns, "gpus")
        paid = np.bincount(_repeated(self._columns), paid, minlength=worth.size) + fees[bid]
        best = np.append(np.maximum(point.surplus, 0.0), -np.inf)[np.minimum(owner, gangs)]
        near = worth - paid > best - FAR * worth
        return [self._columns[index] for index in np.flatnonzero(near).tolist()]

    def _cut_entries(self, columns: list[Column], first: int) -> tuple[Int, Int, Float]:
        begin, cut, taken = self._cuts
        bid = np.array([column.bid for column in columns])
        count = np.where(bid >= 0, begin[bid + 1] - begin[bid], 0)
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        at = np.repeat(begin[bid], count) + offset
        return first + cut[at], np.repeat(np.arange(bid.size), count), taken[at]


def _by_bid(block: Block) -> tuple[Int, Int, Float]:
    """The entries of the cuts by bid: (begin (bids + 1,), cut, seats taken)."""
    seats = block.seats
    order = np.argsort(seats.bid, kind="stable")
    begin = np.searchsorted(seats.bid[order], np.arange(block.bids.gang.size + 1))
    return begin, seats.cut[order], seats.taken[order]


def _flat(columns: list[Column], name: str) -> Int:
    return np.concatenate([getattr(column, name) for column in columns])


def _repeated(columns: list[Column]) -> Int:
    return np.repeat(np.arange(len(columns)), [column.rows.size for column in columns])
