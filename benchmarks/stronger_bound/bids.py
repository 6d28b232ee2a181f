"""Cheapest placements by choice: the gangs of a prepared problem, some of them with a line for each choice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.cheapest import cheapest
from solvers.planning.dual import minima
from solvers.planning.prepare import Prepared

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Bids:
    """A bid is a gang with some of its relaxed choices. `gang` (bids,), ascending; `choices` (bids, 2): ranges of
    `prepared.relaxed.table`.
    """

    prepared: Prepared
    gang: Int
    choices: Int

    def some(self, chosen: Flags) -> Bids:
        """Only some bids, by flags (bids,)."""
        return Bids(self.prepared, self.gang[chosen], self.choices[chosen])

    @cached_property
    def arrays(self) -> tuple[Arrays, Arrays]:
        """The `gangs` and `shapes` arguments of `cheapest`: every bid is a gang with a shape of its own."""
        prepared, gang = self.prepared, self.gang
        first = np.append(0, np.cumsum(self.choices[:, 1] - self.choices[:, 0]))
        listed = np.concatenate([np.arange(0), *(np.arange(begin, end) for begin, end in self.choices)])
        relaxed, whole = prepared.relaxed, prepared.gangs
        nothing, zeros = np.empty(0, dtype=np.int64), np.zeros(gang.size + 1, dtype=np.int64)
        kept = zeros, nothing, nothing, whole[7], np.zeros(gang.size), zeros, nothing, nothing
        gangs = whole[0][gang], whole[1][gang], np.arange(gang.size), whole[3][gang], *kept, *([nothing] * 4)
        bits = prepared.shapes.bits[prepared.shapes.of_gang[gang]]
        return gangs, (first, relaxed.table[listed], relaxed.segments, relaxed.masks, bits)

    def costs(self, price: Float, walk: Arrays) -> Float:
        """The least that each bid pays at slot prices, (bids,); inf: it fits nowhere."""
        prepared = self.prepared
        cost = np.empty(self.gang.size)
        everyone = np.arange(self.gang.size)
        minima(everyone, *self.arrays, prepared.supply, walk, prepared.room, price, prepared.work(), cost)
        return cost

    def placements(self, chosen: Int, price: Float, walk: Arrays) -> list[tuple[Int, Int]]:
        """(slots, GPUs) of the cheapest placement of some bids that fit."""
        prepared, (gangs, shapes) = self.prepared, self.arrays
        first = np.zeros(chosen.size + 1, dtype=np.int64)
        slots, gpus = np.empty((2, int(gangs[0][chosen].sum())), dtype=np.int64)
        taken = prepared.supply, walk, prepared.room, price, prepared.work()
        record(chosen, gangs, shapes, *taken, first, slots, gpus)
        return [(slots[a:b].copy(), gpus[a:b].copy()) for a, b in pairwise(first.tolist())]


def bids_of(prepared: Prepared, gangs: Int, by_choice: Flags) -> Bids:
    """One bid for each gang, of those in `by_choice` (gangs,) one for each choice."""
    shape, first = prepared.shapes.of_gang[gangs], prepared.relaxed.first
    ranges = np.stack([first[shape], first[shape + 1]], axis=1)
    count = np.where(by_choice, ranges[:, 1] - ranges[:, 0], 1)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    listed = np.repeat(ranges, count, axis=0)
    listed[:, 0] += offset
    split = np.repeat(by_choice, count)
    listed[split, 1] = listed[split, 0] + 1
    return Bids(prepared, np.repeat(gangs, count), listed)


@kernel
def record(
    chosen: Int,
    gangs: Arrays,
    shapes: Arrays,
    supply: Arrays,
    walk: Arrays,
    room: Arrays,
    price: Float,
    work: Arrays,
    first: Int,
    slots: Int,
    gpus: Int,
) -> None:
    """The cheapest placement of each chosen bid into `slots` and `gpus`, from `first` on."""
    at = 0
    for i in range(chosen.size):
        count = cheapest(chosen[i], gangs, shapes, supply, walk, room, price, np.inf, work)[1]
        for k in range(count):
            slots[at], gpus[at] = work[0][k], work[1][k] * gangs[1][chosen[i]]
            at += 1
        first[i + 1] = at
