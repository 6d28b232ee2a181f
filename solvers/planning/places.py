"""Where along a walk a gang may stand: 64 places at a time, one bit each.

Most places of a segment are not for the gang that walks it: they are full, or their rows do not fit its shape.
Two words tell for 64 places at once which have 1, 2, 4 or 8 GPUs free, as was last noted, and which fit. The first
are kept up to date as gangs come and go, the second hold as long as the order of the walk does; both are made when
they are first read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, inlined, leaf
from solvers.planning.eligible import ones

Int = NDArray[np.int64]
Bits = NDArray[np.uint64]
Flags = NDArray[np.bool_]

BLOCK_BITS = 6
BLOCK_MASK = (1 << BLOCK_BITS) - 1
SIZES = 4
"""Room is noted for so many powers of two."""


def blocks(places: int) -> Arrays:
    """(room (blocks, SIZES), stale): which of each 64 places have 2^k GPUs free, all still to be looked at."""
    count = (places >> BLOCK_BITS) + 1
    return np.zeros((count, SIZES), dtype=np.uint64), np.ones(count, dtype=np.bool_)


def words_of(segments: Int) -> Int:
    """Where the words of each listed segment begin, (segments + 1,); a block that two segments share has two."""
    count = ((segments[:, 1] - 1) >> BLOCK_BITS) - (segments[:, 0] >> BLOCK_BITS) + 1
    return np.append(0, np.cumsum(count))


def unknown_fits(words: Int) -> Arrays:
    """(fits, known): which of each 64 places fit, nothing known; `words` as from `words_of`."""
    size = int(words[-1])
    return np.empty(size, dtype=np.uint64), np.zeros(size, dtype=np.bool_)


NOT_KEPT: Arrays = (np.zeros(1, dtype=np.int64), *unknown_fits(np.zeros(1, dtype=np.int64)))
"""The end of a `walk` that is read about once: what fits is looked at place by place."""


@inlined
def next_place(
    at: int, k: int, least: int, mine: Bits, mask: int, segments: Int, walk: Arrays, site_of: Int, masks: Flags,
    free: Int,
) -> int:  # fmt: skip
    """The first place from `at` on in the listed segment k that fits and has `least` GPUs free; its end if none.

    `mine`: bits of the rows of a shape; `mask`: of sites, -1: any.
    """
    slot_of, room, stale, words, fits, known = walk[0], walk[3], walk[4], walk[5], walk[6], walk[7]
    start, stop, every = segments[k, 0], segments[k, 1], np.uint64(0xFFFFFFFFFFFFFFFF)
    size = (least > 1) + (least > 3) + (least > 7)
    exact = least == 1 << size
    while at < stop:
        block = at >> BLOCK_BITS
        if stale[block]:
            look_again(block, walk, free)
        word = room[block, size] & (every << np.uint64(at & BLOCK_MASK))
        if word and known.size > 0:
            entry = words[k] + block - (start >> BLOCK_BITS)
            if not known[entry]:
                fits[entry] = fitting(block, start, stop, mine, mask, walk, site_of, masks)
                known[entry] = True
            word &= fits[entry]
        while word:
            at = int((block << BLOCK_BITS) + first_bit(word))
            if at >= stop:
                return int(stop)
            if (known.size > 0 or is_fit(at, mine, mask, walk, site_of, masks)) and (
                exact or free[slot_of[at]] >= least
            ):
                return int(at)
            word &= word - np.uint64(1)
        at = (block + 1) << BLOCK_BITS
    return int(stop)


@inlined
def is_fit(at: int, mine: Bits, mask: int, walk: Arrays, site_of: Int, masks: Flags) -> bool:
    """Whether a shape may use the place at `at`."""
    row = walk[1][at]
    if not (mine[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
        return False
    return mask < 0 or masks[mask, site_of[walk[0][at]]]


@leaf
def fitting(
    block: int, start: int, stop: int, mine: Bits, mask: int, walk: Arrays, site_of: Int, masks: Flags
) -> np.uint64:
    """The bits of the places of a block that lie in [start, stop) and fit."""
    first = block << BLOCK_BITS
    word = np.uint64(0)
    for at in range(max(first, start), min(first + BLOCK_MASK + 1, stop)):
        if is_fit(at, mine, mask, walk, site_of, masks):
            word |= np.uint64(1) << np.uint64(at - first)
    return word


@leaf
def look_again(block: int, walk: Arrays, free: Int) -> None:
    """Note how much is free on the places of a block."""
    slot_of, room, stale = walk[0], walk[3], walk[4]
    first = block << BLOCK_BITS
    for size in range(SIZES):
        room[block, size] = 0
    for at in range(first, min(first + BLOCK_MASK + 1, slot_of.size)):
        for size in range(SIZES):
            if free[slot_of[at]] >> size > 0:
                room[block, size] |= np.uint64(1) << np.uint64(at - first)
    stale[block] = False


@inlined
def note(slot: int, walk: Arrays, free: Int) -> None:
    """Note how much is free on a slot, wherever it stands in the walk."""
    place, room = walk[2], walk[3]
    for i in range(place.shape[1]):
        at = place[slot, i]
        if at >= 0:
            bit = np.uint64(1) << np.uint64(at & BLOCK_MASK)
            for size in range(SIZES):
                if free[slot] >> size > 0:
                    room[at >> BLOCK_BITS, size] |= bit
                else:
                    room[at >> BLOCK_BITS, size] &= ~bit


@inlined
def first_bit(word: np.uint64) -> np.int64:
    """The lowest bit that is set, of a word that has one: as many as are set below it."""
    return ones((word & (~word + np.uint64(1))) - np.uint64(1))
