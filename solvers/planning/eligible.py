"""Which rows each shape may use, as bits: what its models have at its sites, cut by one set for each threshold.

A tier, a capacity or certifications that shapes ask for pass the same rows whoever asks: their bits are found
once, and 64 rows are judged by one operation. Rows stand by model, then site, so that what a model has at a site
is one range. Suppliers and a fixed fabric are looked at row by row, in what is left and only for shapes that name
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, inlined, kernel
from solvers.planning.side_by_side import in_ranges

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
Bits = NDArray[np.uint64]


class Wanted(NamedTuple):
    """What shapes ask for beyond thresholds, each (shapes,): rows of `sets`, and the one fabric, -1: any.

    `sets`: of models, sites and suppliers, each (sets, members).
    """

    models: Int
    sites: Int
    suppliers: Int
    only_fabric: Int
    sets: tuple[Flags, Flags, Flags]


def reaching(have: Int, want: Int) -> tuple[Bits, Int]:
    """(bits of the rows that reach each distinct threshold, which of them each shape asks for)."""
    distinct, index = np.unique(want, return_inverse=True)
    return packed(have.size, [have >= least for least in distinct]), index


def holding(have: Int, want: Int) -> tuple[Bits, Int]:
    """The same for bit masks: rows whose mask contains the wanted one."""
    distinct, index = np.unique(want, return_inverse=True)
    return packed(have.size, [have & mask == mask for mask in distinct]), index


def having_room(free: Int, left: Int, replica: Int, milli: Int) -> tuple[Bits, Int]:
    """The same for a replica's GPUs, or `milli` thousandths of one on a card with `left`; 0: whole GPUs."""
    distinct, index = np.unique(np.stack((replica, milli)), axis=1, return_inverse=True)
    sets = [(free >= gpus) | ((left >= part) & (part > 0)) for gpus, part in distinct.T.tolist()]
    return packed(free.size, sets), index.reshape(-1)


def packed(rows: int, sets: Iterable[Flags]) -> Bits:
    """Sets of rows as (sets, rows // 64 + 1) words, row r in bit r % 64."""
    filled = [np.packbits(flags, bitorder="little") for flags in sets]
    octets = np.zeros((len(filled), 8 * (rows // 64 + 1)), dtype=np.uint8)
    for at, one in enumerate(filled):
        octets[at, : one.size] = one
    return octets.view("<u8")


def eligible(
    site: Int, supplier: Int, fabric: Int, model_start: Int, wanted: Wanted, rules: list[tuple[Bits, Int]]
) -> tuple[Bits, Int]:
    """(bits (shapes, rows // 64 + 1) of the rows each shape may use, how many (shapes,)).

    `site`, `supplier`, `fabric` (rows,); `rules`: as `reaching` and `holding` give them; all must be kept.
    """
    count = site.size
    words = count // 64 + 1
    model = np.repeat(np.arange(model_start.size - 1), np.diff(model_start))
    begins = np.flatnonzero((np.diff(site, prepend=-1) != 0) | (np.diff(model, prepend=-1) != 0))
    groups = (
        model_start,
        np.searchsorted(begins, model_start),
        np.append(begins, count),
        site[begins],
        supplier,
        fabric,
    )
    first = np.cumsum([0, *(bits.shape[0] for bits, _ in rules)])
    kept = np.concatenate([np.empty((0, words), dtype=np.uint64), *(bits for bits, _ in rules)])
    which = np.stack([begin + index for begin, (_, index) in zip(first, rules, strict=False)], axis=1)
    shapes = (
        *wanted[:4],
        *wanted.sets,
        np.all(wanted.sets[1], axis=1)[wanted.sites],
        np.all(wanted.sets[2], axis=1)[wanted.suppliers],
    )
    bits, counts = np.zeros((which.shape[0], words), dtype=np.uint64), np.zeros(which.shape[0], dtype=np.int64)
    in_ranges(counts.size, lambda begin, end: mark_rows(begin, end, groups, shapes, kept, which, bits, counts))
    return bits, counts


@kernel
def mark_rows(
    begin: int, end: int, groups: Arrays, shapes: Arrays, kept: Bits, which: Int, bits: Bits, counts: Int
) -> None:
    """Set the bits of the rows that each shape in [begin, end) may use, and their numbers: both zeros on entry."""
    model_start, group_start, group_at, group_site, supplier, fabric = groups
    models, sites, suppliers, only_fabric, model_sets, site_sets, supplier_sets, any_site, any_supplier = shapes
    for shape in range(begin, end):
        mine, low, high = bits[shape], bits.shape[1], 0
        for model in range(model_sets.shape[1]):
            first, last = model_start[model], model_start[model + 1]
            if first == last or not model_sets[models[shape], model]:
                continue
            low, high = min(low, first >> 6), max(high, ((last - 1) >> 6) + 1)
            if any_site[shape]:
                set_range(mine, first, last)
                continue
            for group in range(group_start[model], group_start[model + 1]):
                if site_sets[sites[shape], group_site[group]]:
                    set_range(mine, group_at[group], group_at[group + 1])
        for word in range(low, high):
            left = mine[word]
            if left:
                for rule in which[shape]:
                    left &= kept[rule, word]
                if left and not (any_supplier[shape] and only_fabric[shape] < 0):
                    left = of_who_is_named(
                        left, word, supplier_sets[suppliers[shape]], supplier, only_fabric[shape], fabric
                    )
                mine[word] = left
                counts[shape] += ones(left)


@kernel
def set_range(bits: Bits, first: int, last: int) -> None:
    """Set the bits [first, last), which are not empty."""
    every = np.uint64(0xFFFFFFFFFFFFFFFF)
    begin, end = first >> 6, (last - 1) >> 6
    from_first, to_last = every << np.uint64(first & 63), every >> np.uint64(63 - ((last - 1) & 63))
    if begin == end:
        bits[begin] |= from_first & to_last
        return
    bits[begin] |= from_first
    for word in range(begin + 1, end):
        bits[word] = every
    bits[end] |= to_last


@kernel
def of_who_is_named(
    left: np.uint64, word: int, accepted: Flags, supplier: Int, only_fabric: int, fabric: Int
) -> np.uint64:
    """The bits of one word whose rows are of an accepted supplier, and on the one fabric if there is one."""
    one = np.uint64(1)
    for bit in range(64):
        flag = one << np.uint64(bit)
        if left & flag:
            row = word * 64 + bit
            if not accepted[supplier[row]] or (only_fabric >= 0 and fabric[row] != only_fabric):
                left &= ~flag
    return left


@inlined
def ones(word: np.uint64) -> np.int64:
    """How many bits are set (the usual sums of neighbours)."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))
