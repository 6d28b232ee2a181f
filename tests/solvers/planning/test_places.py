"""Places of a walk, 64 at a time, against a look at each of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.kernel import Arrays
from solvers.planning.choices import C_FIRST, C_LAST, C_MASK
from solvers.planning.places import NOT_KEPT, first_bit, next_place, note, unknown_fits, words_of
from solvers.planning.prepare import Prepared, prepare
from tests.solvers.planning.small_problems import small_problem

SEEDS = range(12)


def walked(seed: int, kept: bool) -> tuple[Prepared, Arrays]:
    """A fleet, and a walk by asks on which it is kept, or not, what fits."""
    prepared = prepare(small_problem(seed, nodes=90, gangs=12, runs_percent=0))
    walk = prepared.walk(prepared.ask.astype(float))
    words = words_of(prepared.placed.segments)
    return prepared, (*walk[:5], words, *unknown_fits(words)) if kept else walk


def listed(prepared: Prepared) -> Iterator[tuple[int, int, int]]:
    """(shape, mask, listed segment) of all choices for plans."""
    choices = prepared.placed
    for shape in range(choices.first.size - 1):
        for row in choices.table[choices.first[shape] : choices.first[shape + 1]]:
            for k in range(row[C_FIRST], row[C_LAST]):
                yield shape, int(row[C_MASK]), k


def plain_place(
    at: int, shape: int, mask: int, k: int, least: int, prepared: Prepared, walk: Arrays, free: np.ndarray
) -> int:
    """The same as `next_place`, one after the other."""
    shapes, sites = prepared.shapes, prepared.supply[1]
    mine = set(shapes.rows[shapes.first[shape] : shapes.first[shape + 1]].tolist())
    stop = int(prepared.placed.segments[k, 1])
    for place in range(at, stop):
        slot, row = walk[0][place], walk[1][place]
        near = mask < 0 or prepared.placed.masks[mask, sites[slot]]
        if free[slot] >= least and int(row) in mine and near:
            return place
    return stop


def faults(prepared: Prepared, walk: Arrays, free: np.ndarray, random: np.random.Generator) -> int:
    """How often `next_place` and its twin disagree, from any place of every listed segment."""
    choices, wrong = prepared.placed, 0
    for shape, mask, k in listed(prepared):
        at, least = int(random.integers(*choices.segments[k])), int(random.integers(1, 10))
        found = next_place(
            at, k, least, prepared.shapes.bits[shape], mask, choices.segments, walk, prepared.supply[1],
            choices.masks, free,
        )  # fmt: skip
        wrong += found != plain_place(at, shape, mask, k, least, prepared, walk, free)
    return wrong


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_next_place_is_that_of_a_plain_look(seed: int, kept: bool) -> None:
    """Law: with what fits kept or not, and whatever came and went since, the place is the first that will do."""
    prepared, walk = walked(seed, kept)
    random, free = np.random.default_rng(seed), prepared.capacity.copy()
    for _ in range(4):
        assert faults(prepared, walk, free, random) == 0
        for slot in random.integers(free.size, size=30):
            free[slot] = random.integers(prepared.capacity[slot] + 1)
            note(slot, walk, free)


def test_a_change_that_nobody_noted_is_seen() -> None:
    """A planted bug: GPUs come back and the walk is not told."""
    missed = 0
    for seed in SEEDS:
        prepared, walk = walked(seed, True)
        random, free = np.random.default_rng(seed), np.zeros_like(prepared.capacity)
        assert faults(prepared, walk, free, random) == 0
        missed += faults(prepared, walk, prepared.capacity.copy(), random)
    assert missed > 0


def test_what_is_not_kept_is_never_written() -> None:
    """Law: walks that keep nothing share one end, which stays as it is."""
    prepared, walk = walked(0, False)
    faults(prepared, walk, prepared.capacity.copy(), np.random.default_rng(0))
    assert walk[5] is NOT_KEPT[0] and NOT_KEPT[1].size == 0 and NOT_KEPT[2].size == 0


@given(st.integers(1, (1 << 64) - 1))
def test_the_first_bit_is_the_lowest(word: int) -> None:
    """Law: of every word but 0."""
    assert first_bit(np.uint64(word)) == (word & -word).bit_length() - 1
