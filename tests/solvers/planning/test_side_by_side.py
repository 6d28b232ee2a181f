"""What kernels do side by side, and what is laid out for them, against slow twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.planning import dual, side_by_side
from solvers.planning.choices import cliques, stars
from solvers.planning.dual import alone_at_asks, cheapest_alone
from solvers.planning.fold import FABRIC, MODEL
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.side_by_side import in_ranges
from tests.solvers.planning.small_problems import small_problem

SEEDS = range(20)


@given(count=st.integers(0, 50), threads=st.integers(1, 9))
def test_ranges_make_up_the_whole(count: int, threads: int) -> None:
    """Law: every number of [0, count) is in exactly one range, in order, for any number of threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "THREADS", threads)
        ranges = in_ranges(count, lambda begin, end: list(range(begin, end)))
    assert [number for one in ranges for number in one] == list(range(count))


@pytest.mark.parametrize("seed", SEEDS)
def test_bounds_do_not_depend_on_threads(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: m(p) is the same on any number of threads, and none touches the block counts of the common walk."""
    prepared = prepare(small_problem(seed, nodes=12, gangs=16))
    price = prepared.ask.astype(float)
    walk = prepared.walk(price)
    monkeypatch.setattr(side_by_side, "THREADS", 1)
    alone = cheapest_alone(prepared, prepared.relaxed, walk, price)
    monkeypatch.setattr(side_by_side, "THREADS", 7)
    assert np.array_equal(cheapest_alone(prepared, prepared.relaxed, walk, price), alone)
    assert walk[4].all() and not walk[3].any() and not walk[7].any()
    placed = alone_at_asks(prepared, prepared.placed)
    assert (placed >= alone).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_gangs_alone_are_looked_at_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: who is asked for in pieces costs what all cost at once, and nobody is looked at twice."""
    prepared = prepare(small_problem(seed, nodes=12, gangs=16))
    price = prepared.ask * 1.5
    whole = cheapest_alone(prepared, prepared.placed, prepared.walk(price), price)
    looked: list[int] = []

    def look(*arguments: Any) -> np.ndarray:
        looked.extend(arguments[-1].tolist())
        return cheapest_alone(*arguments)

    monkeypatch.setattr(dual, "cheapest_alone", look)
    alone, random = dual.Alone(prepared, prepared.placed, price), np.random.default_rng(seed)
    for _ in range(4):
        gangs = np.flatnonzero(random.random(whole.size) < 0.4)
        assert np.array_equal(alone.of(gangs), whole[gangs])
    assert looked and len(looked) == len(set(looked))


def sorted_walk(prepared: Prepared, price: np.ndarray) -> np.ndarray:
    """Slots by model, by model and site, by model and fabric, each by price: three stable sorts."""
    rows, segments = prepared.rows, prepared.segments
    by_price = np.argsort(price, kind="stable")
    row = rows.row_of[by_price]
    on_fabric = by_price[rows.table[row, FABRIC] >= 0]
    keys = (
        (by_price, rows.table[row, MODEL]),
        (by_price, segments.site_of_row[row]),
        (on_fabric, segments.fabric_of_row[rows.row_of[on_fabric]]),
    )
    return np.concatenate([slots[np.argsort(key, kind="stable")] for slots, key in keys])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_is_three_sorts(seed: int) -> None:
    """Law: dealing slots to their segments in the order of prices is sorting them, ties by number."""
    prepared = prepare(small_problem(seed, nodes=25, gangs=8, runs_percent=0))
    price = np.random.default_rng(seed).integers(1, 5, prepared.capacity.size).astype(float)
    slot, row, place, *_ = prepared.walk(price)
    assert np.array_equal(slot, sorted_walk(prepared, price))
    assert np.array_equal(row, prepared.rows.row_of[slot])
    everyone, rows, segments = np.arange(price.size), prepared.rows, prepared.segments
    assert np.array_equal(slot[place[:, :2]], np.stack([everyone, everyone], axis=1))
    on_fabric = segments.fabric_of_row[rows.row_of] >= 0
    assert np.array_equal(place[:, 2] >= 0, on_fabric)
    assert np.array_equal(slot[place[on_fabric, 2]], everyone[on_fabric])
    for column, begin in enumerate((segments.model, segments.site, segments.fabric)):
        on = place[:, column] >= 0
        assert ((begin[0] <= place[on, column]) & (place[on, column] < begin[-1])).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_cliques_are_near_and_cannot_grow(seed: int) -> None:
    """Law: the sites of a clique have room and are mutually near, and no other one is near them all."""
    distances, sites = small_problem(seed).distances, 4
    limits_ms = np.array([5.0, 40.0, 90.0])
    whole, left = np.random.default_rng(seed).integers(0, 2, (2, sites))
    star, has_room = stars(distances, limits_ms, sites), whole + left > 0
    for number, clique in enumerate(cliques(distances, limits_ms, star, whole, left)):
        near = star[number // sites * sites :][:sites]
        assert not clique[~has_room].any()
        assert near[np.ix_(clique, clique)].all()
        others = has_room & star[number] & ~clique
        assert not (near[:, clique].all(axis=1) & others).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_cards_take_no_site_from_a_clique(seed: int) -> None:
    """Law: sites with shared cards join cliques and change nothing else of them; each of them is in its own."""
    distances, sites = small_problem(seed).distances, 4
    limits_ms = np.array([5.0, 40.0, 90.0])
    whole, left = np.random.default_rng(seed).integers(0, 2, (2, sites))
    star = stars(distances, limits_ms, sites)
    alone = cliques(distances, limits_ms, star, whole, np.zeros_like(left))
    beside = cliques(distances, limits_ms, star, whole, left)
    assert np.array_equal(beside & (whole > 0), alone)
    for site in np.flatnonzero(left):
        assert beside[site::sites, site].all()
