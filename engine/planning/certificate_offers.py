"""Cheapest slots: what a greedy choice takes of the entries that one request may use.

A *slot* is room for one replica. Arrays in, numbers out; entries stand sorted by group, then cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.planning.certificate_supply import Flags, Float, Int


@dataclass(frozen=True, slots=True)
class Offers:
    """Entries of equal slots, sorted by group, then cost; columns of shape (entries,).

    `cost`: micro-USD per hour of one slot, float64. `slots`: how many there are, at least 1.
    """

    group: Int
    site: Int
    supplier: Int
    cost: Float
    slots: Int

    def __getitem__(self, chosen: Int | Flags | slice) -> Offers:
        return Offers(
            self.group[chosen], self.site[chosen], self.supplier[chosen], self.cost[chosen], self.slots[chosen]
        )


def least_of_groups(offers: Offers, need: int) -> float:
    """The least cost of `need` slots of one group; inf if none has so many."""
    return float(_costs_of_groups(offers, need)[1].min(initial=math.inf))


def limited(offers: Offers, keys: tuple[Int, ...], most: Int) -> Offers:
    """The offers in their order, of each combination of `keys` only the first `most` slots (a value per entry)."""
    order = np.lexsort(keys)
    starts = np.unique(np.concatenate([_starts(key[order]) for key in keys]))
    slots = np.empty_like(offers.slots)
    slots[order] = _taken(offers.slots[order], starts, most[order])
    kept = slots > 0
    return Offers(offers.group, offers.site, offers.supplier, offers.cost, slots)[kept]


def least_of_stars(offers: Offers, near: Callable[[Int], Flags], need: int, most: Int | None) -> float:
    """The least over each site with a slot, and each group it has one in, of the slots there that are near it.

    `near`: of k sites, a matrix of shape (k, k). `most`: shape (suppliers,), the slots that each gives at most,
    None for no limit; it holds within a star, so the offers are not cut by it before. Groups and sites come in the
    order of a floor under their costs, so few of them are looked at.
    """
    starts, floors = _costs_of_groups(offers, need)
    ends = np.append(starts[1:], offers.slots.size)
    least = math.inf
    for group in np.argsort(floors, kind="stable").tolist():
        if floors[group] >= least:
            break
        rows = offers[slice(starts[group], ends[group])]
        least = min(least, _least_star(rows, near, need, most))
    return least


def _least_star(offers: Offers, near: Callable[[Int], Flags], need: int, most: Int | None) -> float:
    sites, cheapest, number = np.unique(offers.site, return_index=True, return_inverse=True)
    close = near(sites)
    floors = need * np.where(close, offers.cost[cheapest], np.inf).min(axis=1)
    floors[close @ np.bincount(number, offers.slots) < need] = np.inf
    least = math.inf
    for star in np.argsort(floors, kind="stable").tolist():
        if floors[star] >= least:
            break
        inside = np.flatnonzero(close[star][number])
        if most is None:
            chosen = offers[inside[:need]]  # an entry is a slot or more
        else:
            chosen = offers[inside]
            chosen = limited(chosen, (chosen.supplier,), most[chosen.supplier])
        taken = np.clip(need - (np.cumsum(chosen.slots) - chosen.slots), 0, chosen.slots)
        if int(taken.sum()) == need:
            least = min(least, float((taken * chosen.cost).sum()))
    return least


def _costs_of_groups(offers: Offers, need: int) -> tuple[Int, Float]:
    """First entry of every group, and the cost of its `need` cheapest slots, inf if there are fewer."""
    starts = _starts(offers.group)
    taken = _taken(offers.slots, starts, need)
    if not taken.size:
        return starts, np.empty(0)
    costs = np.add.reduceat(taken * offers.cost, starts)
    return starts, np.where(np.add.reduceat(taken, starts) == need, costs, np.inf)


def _starts(segment: Int) -> Int:
    """Where the runs of a sorted column begin."""
    if not segment.size:
        return np.empty(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(segment[1:] != segment[:-1]) + 1])


def _taken(slots: Int, starts: Int, most: Int | int) -> Int:
    """Slots taken in order, of each run at most `most`."""
    before = np.cumsum(slots) - slots
    before -= np.repeat(before[starts], np.diff(starts, append=slots.size))
    return np.clip(most - before, 0, slots)
