"""Seats: how many large gangs a small set of rows can hold, which no price of a node knows.

A gang of 256 GPUs on one fabric needs a fabric of 256, and one of 400 GPUs holds one of them, not 1.56. For rows T
with cap GPUs, every s and all gangs i whose placement would lie inside T:

    Σ_i ⌊n_i / s⌋ <= ⌊cap / s⌋

holds for whole gangs (divide Σ n_i <= cap by s and round down: Chvátal and Gomory), and its multiplier is a fee
that gangs of at least s GPUs pay for a seat there. Sizes are mostly powers of two, where such cuts say the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.planning.choices import C_FABRIC, C_MASK, C_MODEL, C_ROOM
from solvers.planning.fold import CAPACITY, FABRIC, MODEL, SITE
from solvers.planning.prepare import Prepared

if TYPE_CHECKING:
    from benchmarks.stronger_bound.bids import Bids

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]

SEATS_MOST = 12
"""Of a cut: where more gangs have room, what rounding down loses is small."""
GPUS_LEAST = 2


class Seats(NamedTuple):
    """`count` (cuts,): ⌊cap / s⌋. Bid `bid[k]` takes `taken[k]` = ⌊n / s⌋ of cut `cut[k]`, each (entries,)."""

    count: Float
    bid: Int
    cut: Int
    taken: Float

    def fees(self, fee: Float, bids: int) -> Float:
        """What each bid pays, (bids,), at fees (cuts,)."""
        return np.bincount(self.bid, self.taken * fee[self.cut], minlength=bids)


def few_seats(prepared: Prepared) -> Flags:
    """Gangs with a choice that has room for few of them, (gangs,)."""
    gangs, choices = prepared.problem.gangs, prepared.relaxed
    room = np.full(choices.first.size - 1, np.iinfo(np.int64).max)
    np.minimum.at(room, np.repeat(np.arange(room.size), np.diff(choices.first)), choices.table[:, C_ROOM])
    few: Flags = (room[prepared.shapes.of_gang] < (SEATS_MOST + 1) * gangs.replicas) & (gangs.gpus >= GPUS_LEAST)
    return few


def seats_of(bids: Bids, scarce: Flags) -> Seats:
    """The cuts that bids with one choice each suggest: T the rows of one, s its size.

    Those that cannot bind are left out, and sets of rows none of which is `scarce` (rows,).
    """
    gangs, rows = bids.prepared.problem.gangs, bids.prepared.rows
    single = np.flatnonzero(bids.choices[:, 1] - bids.choices[:, 0] == 1)
    sets, of_bid = np.unique(rows_of(bids, single), axis=0, return_inverse=True)
    size, replica = gangs.gpus[bids.gang[single]], gangs.gpus_per_replica[bids.gang[single]]
    found: list[tuple[int, Int, Int]] = []
    wanted = np.unique(np.stack([of_bid.ravel(), size, replica], axis=1), axis=0)
    inside_of: dict[int, Flags] = {}
    for index, gpus, per_node in wanted.tolist():
        member = np.unpackbits(sets[index], count=rows.start.size - 1).astype(bool)
        if not scarce[member].any():
            continue
        room = rows.table[member, CAPACITY] // per_node * per_node * np.diff(rows.start)[member]
        count = int(room.sum()) // gpus
        if not 0 < count <= SEATS_MOST:
            continue
        if index not in inside_of:
            inside_of[index] = ((sets & ~sets[index]) == 0).all(axis=1)[of_bid.ravel()]
        users = np.flatnonzero(inside_of[index] & (size >= gpus) & (replica % per_node == 0))
        rivals = np.unique(bids.gang[single[users]])
        if int((gangs.gpus[rivals] // gpus).sum()) > count:
            found.append((count, single[users], size[users] // gpus))
    return _joined(found)


def rows_of(bids: Bids, chosen: Int) -> NDArray[np.uint8]:
    """The rows that some bids with one choice each may use, packed (chosen, bytes)."""
    prepared = bids.prepared
    table, shapes, relaxed = prepared.rows.table, prepared.shapes, prepared.relaxed
    packed = np.zeros((chosen.size, (table.shape[0] + 7) // 8), dtype=np.uint8)
    made: dict[int, NDArray[np.uint8]] = {}
    for line, bid in zip(packed, chosen.tolist(), strict=True):
        at = int(bids.choices[bid, 0])
        if at not in made:
            shape, choice = shapes.of_gang[bids.gang[bid]], relaxed.table[at]
            rows = shapes.rows[shapes.first[shape] : shapes.first[shape + 1]]
            kept = np.ones(rows.size, dtype=bool)
            for column, attribute in ((C_MODEL, MODEL), (C_FABRIC, FABRIC)):
                if choice[column] >= 0:
                    kept &= table[rows, attribute] == choice[column]
            if choice[C_MASK] >= 0:
                kept &= relaxed.masks[choice[C_MASK], table[rows, SITE]]
            member = np.zeros(table.shape[0], dtype=bool)
            member[rows[kept]] = True
            made[at] = np.packbits(member)
        line[:] = made[at]
    return packed


def _joined(found: list[tuple[int, Int, Int]]) -> Seats:
    bid, taken = (
        np.concatenate([np.empty(0, dtype=np.int64), *(one[column] for one in found)]) for column in (1, 2)
    )
    cut = np.repeat(np.arange(len(found)), [one[1].size for one in found])
    return Seats(np.array([one[0] for one in found], dtype=float), bid, cut, taken.astype(float))
