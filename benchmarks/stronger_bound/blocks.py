"""One model's part of the split market as a problem of its own, and what prices and seat fees prove of it.

For row prices q, seat fees f and what a branch has decided, no plan of the block is worth more than

    Σ_i max(0, worth_i − m_i(q, f)) + Σ_buyers gain(q) + Σ_slots cap·(q − ask) + Σ_cuts seats·f

m_i: the least over i's bids of its cheapest placement and the fees of its seats. A gang that is IN counts without
max(0, ·), one that is OUT counts 0. A divisible buyer gains Σ (pays − q)^+ on the best of at most `most` GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.stronger_bound.bids import Bids, bids_of
from benchmarks.stronger_bound.seats import Seats, few_seats, seats_of
from benchmarks.stronger_bound.split import Split, eligible_slots
from solvers.kernel import Arrays
from solvers.planning.dual import cheapest_alone
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import Gangs, Problem

Int = NDArray[np.int64]
Float = NDArray[np.float64]

FREE, IN, OUT = 0, 1, -1
"""What a branch has decided about a gang."""


HOPELESS = 0.2
"""Of its worth: a gang that lacks more than this at the market's prices needs no seat."""


LARGE_MOST = 200
"""So many gangs, those of the greatest worth, bid for each choice by itself."""


class Value(NamedTuple):
    """`bound`: micro-USD per hour. `surplus` (gangs,) before max(0, ·), −inf: fits nowhere.

    `bid` (gangs,): the best of each, −1: it has none. `price`, `walk`: of the slots. `bought` (entries, 3): buyer,
    slot and GPUs of divisible buyers.
    """

    bound: float
    surplus: Float
    bid: Int
    price: Float
    walk: Arrays
    bought: Int


@dataclass(frozen=True)
class Block:
    """`gang`, `worth` (gangs,): number in the whole problem, worth after λ, −inf of divisible ones.

    `buyer`, `most` (buyers,): the gang of each divisible buyer and the GPUs it wants; `pays` (buyers, slots): its
    worth of a GPU there, 0 where it may not buy. `market_price` (slots,).
    """

    prepared: Prepared
    gang: Int
    worth: Float
    bids: Bids
    seats: Seats
    buyer: Int
    most: Int
    pays: Float
    market_price: Float

    @cached_property
    def first_bid(self) -> Int:
        """Where the bids of each gang begin, (gangs + 1,)."""
        return np.searchsorted(self.bids.gang, np.arange(self.gang.size + 1))

    def row_price(self) -> Float:
        """The market's price of each row, (rows,): the least of its slots'."""
        return np.minimum.reduceat(self.market_price, self.prepared.rows.start[:-1])

    def value(self, row_price: Float, fee: Float, decided: Int) -> Value:
        """What prices (rows,) and fees (cuts,) prove where gangs are `decided` (gangs,)."""
        prepared, rows = self.prepared, self.prepared.rows
        price = np.maximum(rows.ask.astype(float), row_price[rows.row_of])
        walk = prepared.walk(price)
        cost = self.bids.costs(price, walk) + self.seats.fees(fee, self.bids.gang.size)
        surplus, bid = self.best(self.worth[self.bids.gang] - cost)
        counted = np.where(decided == IN, surplus, np.maximum(surplus, 0.0))
        counted[decided == OUT] = 0.0
        gain, bought = self._buy(price)
        sellers = float((prepared.capacity * (price - rows.ask)).sum())
        bound = float(counted.sum()) + gain + sellers + float((fee * self.seats.count).sum())
        return Value(bound, surplus, bid, price, walk, bought)

    def best(self, surplus: Float) -> tuple[Float, Int]:
        """(the largest of each gang's, −inf without a bid; its first bid that has it, −1), from those of bids."""
        gangs = np.flatnonzero(np.diff(self.first_bid))
        best, bid = np.full(self.gang.size, -np.inf), np.full(self.gang.size, -1)
        if gangs.size:
            best[gangs] = np.maximum.reduceat(surplus, self.first_bid[gangs])
            first = np.flatnonzero(surplus == best[self.bids.gang])[::-1]
            bid[self.bids.gang[first]] = first
        return best, bid

    def _buy(self, price: Float) -> tuple[float, Int]:
        entries: list[Int] = []
        gain = 0.0
        for number, pays in enumerate(self.pays):
            slots = np.flatnonzero(pays > price)
            slots = slots[np.argsort(price[slots] - pays[slots], kind="stable")]
            held = np.minimum(np.cumsum(self.prepared.capacity[slots]), self.most[number])
            gpus = np.diff(held, prepend=0)
            gain += float((gpus * (pays - price)[slots]).sum())
            used = gpus > 0
            entries.append(np.stack([np.full(used.sum(), number), slots[used], gpus[used]], axis=1))
        return gain, np.concatenate([np.empty((0, 3), dtype=np.int64), *entries])


def block_of(split: Split, model: int) -> Block:
    """The block of a model."""
    whole = split.prepared
    assert whole.problem.spare is None, "blocks are of whole GPUs, without CPU and memory"
    nodes = np.sort(whole.rows.node[whole.problem.nodes.model[whole.rows.node] == model])
    gang = np.flatnonzero(split.reach[:, model])
    divided = split.divided[gang]
    prepared = prepare(_cut_down(whole.problem, gang, nodes, divided))
    price = split.dual.price[whole.slot_of[nodes[prepared.rows.node]]]
    worth = np.where(divided, -np.inf, whole.value[gang] - split.paid[gang])
    bidders = np.flatnonzero(worth > 0)
    large = few_seats(prepared) & (prepared_surplus(prepared, worth, price) > -HOPELESS * worth)
    large &= worth >= np.sort(np.where(large, worth, 0.0))[::-1][:LARGE_MOST][-1]
    bids = bids_of(prepared, bidders, large[bidders])
    buyer = np.flatnonzero(divided)
    pays = np.zeros((buyer.size, price.size))
    for line, own in zip(pays, buyer.tolist(), strict=True):
        slots = eligible_slots(prepared, own)
        line[slots] = price[slots] if split.at_market[gang[own]] else split.unit_worth[gang[own]]
    most = whole.problem.gangs.gpus[gang[buyer]]
    scarce = np.maximum.reduceat(price > prepared.ask, prepared.rows.start[:-1])
    return Block(prepared, gang, worth, bids, seats_of(bids, scarce), buyer, most, pays, price)


def prepared_surplus(prepared: Prepared, worth: Float, price: Float) -> Float:
    """What each gang would have at slot prices, (gangs,)."""
    return worth - cheapest_alone(prepared, prepared.relaxed, prepared.walk(price), price)


def _cut_down(problem: Problem, gang: Int, nodes: Int, divided: NDArray[np.bool_]) -> Problem:
    """Some nodes and some gangs of a problem; of divisible gangs one replica, so that no row is lost."""
    columns = {field.name: getattr(problem.gangs, field.name) for field in fields(Gangs) if field.name != "needs"}
    gangs = Gangs(**{name: column[gang] for name, column in columns.items()})
    kept = {field.name: getattr(problem.nodes, field.name)[nodes] for field in fields(problem.nodes)}
    return replace(
        problem,
        nodes=replace(problem.nodes, **kept),
        capacity=problem.capacity[nodes],
        gangs=replace(gangs, replicas=np.where(divided, 1, gangs.replicas)),
    )
