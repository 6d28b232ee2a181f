"""What the gangs of one model's program want, and the rows that none of them tells apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.stronger_bound.split import Split, eligible_rows
from solvers.planning.choices import C_FABRIC, C_MASK, C_MODEL
from solvers.planning.fold import FABRIC, SITE

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]

DEARER = 0.02


class Offer(NamedTuple):
    """One gang in one model. `worth` of it whole, micro-USD per hour, after what it pays outside.

    `groups` (choices, rows): which of `rows` each choice may use; without any choice the gang is divisible and
    pays `each` (rows,) a GPU.
    """

    worth: float
    gpus: float
    rows: Int
    groups: Flags
    each: Float


def pairs_in(split: Split, model: int) -> int:
    """How many pairs of a gang and a row its program has, at most."""
    shapes, start = split.prepared.shapes, split.prepared.rows.model_start
    inside = (shapes.rows >= start[model]) & (shapes.rows < start[model + 1])
    listed = np.append(0, np.cumsum(inside))[shapes.first]
    return int(np.diff(listed)[shapes.of_gang[split.reach[:, model]]].sum())


def offers_of(split: Split, model: int) -> list[Offer]:
    """All gangs that may use the model; those at the market's prices as one."""
    offers = list(_offers(split, model, split.prepared.rows.model_start))
    mine = np.flatnonzero(split.reach[:, model] & split.at_market)
    if mine.size:
        first, last = (int(row) for row in split.prepared.rows.model_start[model : model + 2])
        rows = np.unique(np.concatenate([eligible_rows(split.prepared, int(gang)) for gang in mine]))
        rows = rows[(rows >= first) & (rows < last)]
        gpus = float(split.prepared.problem.gangs.gpus[mine].sum())
        offers.append(_divisible(gpus, rows, _by_row(split)[0][rows]))
    return offers


def _offers(split: Split, model: int, model_start: Int) -> Iterator[Offer]:
    prepared = split.prepared
    price, room = _by_row(split)
    for gang in np.flatnonzero(split.reach[:, model] & ~split.at_market).tolist():
        gpus = float(prepared.problem.gangs.gpus[gang])
        rows = eligible_rows(prepared, gang)
        rows = rows[(rows >= model_start[model]) & (rows < model_start[model + 1])]
        if split.divided[gang]:
            yield _divisible(gpus, rows, np.full(rows.size, split.unit_worth[gang]))
            continue
        groups = maximal(_groups(split, gang, model, rows))
        worth = float(prepared.value[gang] - split.paid[gang])
        used = groups.any(axis=0)
        rows, groups = rows[used], groups[:, used]
        if split.paid[gang] > 0 or split.reach[gang].sum() > 1:
            least = min((_least(price, room, rows[group], gpus) for group in groups), default=np.inf)
            if least > split.dual.minimum[gang] * (1 + DEARER):
                yield _divisible(gpus, rows, np.full(rows.size, worth / gpus))
                continue
        yield Offer(worth, gpus, rows, groups, np.zeros(rows.size))


def _divisible(gpus: float, rows: Int, each: Float) -> Offer:
    return Offer(0.0, gpus, rows, np.empty((0, rows.size), dtype=bool), each)


def merged_rows(offers: list[Offer], first: int, last: int) -> Int:
    """(rows,) from `first` to `last`: equal numbers for rows that no offer tells apart."""
    kinds = np.zeros((len(offers), last - first), dtype=np.int32)
    for line, offer in zip(kinds, offers, strict=True):
        _, kind = np.unique(offer.groups, axis=1, return_inverse=True)
        paid = np.unique(offer.each, return_inverse=True)[1]
        line[offer.rows - first] = kind.ravel() + 1 if offer.groups.size else paid + 1
    number: Int = np.unique(kinds, axis=1, return_inverse=True)[1].ravel()
    return number


def maximal(groups: Flags) -> Flags:
    """The distinct groups that lie in no other one: what those allow, the others do."""
    groups = groups[groups.any(axis=1)]
    if groups.shape[0] < 2:
        return groups
    first = np.unique(np.packbits(groups, axis=1), axis=0, return_index=True)[1]
    groups = groups[first]
    counted = groups.astype(np.float32)  # whole numbers below 2^24
    inside = (counted @ counted.T) == counted.sum(axis=1)[:, None]
    np.fill_diagonal(inside, False)
    kept: Flags = groups[~inside.any(axis=1)]
    return kept


def _groups(split: Split, gang: int, model: int, rows: Int) -> Flags:
    """(choices, rows) of a gang's relaxed choices in a model."""
    choices, table = split.prepared.relaxed, split.prepared.rows.table
    shape = split.prepared.shapes.of_gang[gang]
    mine = choices.table[choices.first[shape] : choices.first[shape + 1]]
    mine = mine[(mine[:, C_MODEL] == model) | (mine[:, C_MODEL] < 0)]
    member = np.ones((mine.shape[0], rows.size), dtype=bool)
    fabric, mask = mine[:, C_FABRIC] >= 0, mine[:, C_MASK] >= 0
    member[fabric] &= table[rows, FABRIC] == mine[fabric, C_FABRIC][:, None]
    member[mask] &= choices.masks[mine[mask, C_MASK]][:, table[rows, SITE]]
    return member


def _by_row(split: Split) -> tuple[Float, Float]:
    """(least price, GPUs) of every row."""
    start = split.prepared.rows.start[:-1]
    return (
        np.minimum.reduceat(split.dual.price, start),
        np.add.reduceat(split.prepared.capacity, start).astype(float),
    )


def _least(price: Float, room: Float, rows: Int, gpus: float) -> float:
    """About the least that so many GPUs of some rows cost; inf if they have too few."""
    rows = rows[np.argsort(price[rows], kind="stable")]
    filled = np.minimum(np.cumsum(room[rows]), gpus)
    return float(np.diff(filled, prepend=0.0) @ price[rows]) if filled.size and filled[-1] >= gpus else np.inf
