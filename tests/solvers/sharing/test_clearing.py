"""The market for what is free: money is spent, what is scarce is dear, what fills gaps is cheap."""

from __future__ import annotations

import numpy as np
import pytest

from solvers.sharing.clearing import clear, empty_market
from solvers.sharing.fleet import Shapes, SharedFleet
from solvers.sharing.tables import Float
from solvers.sharing.values import empty_values, value_all
from tests.solvers.sharing.small_fleets import machines_of, shapes_of

GRID = (np.linspace(0.0, 0.5, 26), np.zeros(26))
ANY, FIRST = (True, True), (True, False)
FLEET = machines_of([(0, 4, 40_000, 400)] * 10 + [(1, 4, 40_000, 400)] * 40)


def _cleared(shapes: Shapes, arrived: list[int], steps: int = 2_000) -> tuple[Float, float]:
    """(bids, value of the fleet over its free milli) after so many steps on an empty fleet."""
    fleet, kinds = SharedFleet(FLEET), shapes.gpus.size
    market, valued = empty_market(2, 4, GRID[0].size), empty_values(FLEET.gpus.size, GRID[0].size)
    pays, bid = shapes.gpu_milli_each().astype(np.float64), np.zeros(kinds)
    money = np.array(arrived, dtype=np.float64), pays
    clear(shapes.arrays(), fleet.arrays(), *money, GRID, market, np.ones(kinds), bid, steps)
    value_all(fleet.arrays(), GRID, market[0][0], market[0][1], valued)
    return bid, float(valued[2].sum() / fleet.card_left.sum())


def test_money_is_spent_and_buys_the_fleet() -> None:
    """Law: at the equilibrium the fleet is worth the money there is, Σ V = Σ b (Eisenberg and Gale)."""
    shapes = shapes_of([(8_000, 10, 1, 1_000, ANY), (4_000, 10, 1, 500, ANY), (12_000, 10, 2, 1_000, FIRST)])
    bids, worth = _cleared(shapes, [20, 30, 10])
    assert worth == pytest.approx(1.0, abs=0.05)
    assert (bids > 0).all()


def test_who_has_few_places_bids_more_for_them() -> None:
    """Law: of two equal pods the one that accepts only a scarce model bids more."""
    shapes = shapes_of([(8_000, 10, 1, 1_000, ANY), (8_000, 10, 1, 1_000, FIRST)])
    bids, _ = _cleared(shapes, [50, 50])
    assert bids[1] > 1.5 * bids[0]


def test_what_fills_gaps_bids_less_than_its_share() -> None:
    """Law: pods of 190 milli, few beside many of 810, find more gaps than they need: theirs is the lower bid per
    milli.
    """
    shapes = shapes_of([(1_000, 1, 1, 810, ANY), (1_000, 1, 1, 190, ANY)])
    bids, _ = _cleared(shapes, [95, 5])
    assert bids[1] / 190 < 0.9 * bids[0] / 810


def test_scarce_cpu_is_priced_where_it_is_scarce() -> None:
    """Law: two pods that differ in CPU alone: where CPU binds, the hungry one bids more."""
    shapes = shapes_of([(30_000, 1, 1, 1_000, ANY), (4_000, 1, 1, 1_000, ANY)])
    bids, _ = _cleared(shapes, [70, 30])
    assert bids[0] > 1.5 * bids[1]


def test_what_never_came_bids_nothing() -> None:
    """Law: only arrivals have money."""
    shapes = shapes_of([(8_000, 10, 1, 1_000, ANY), (8_000, 10, 1, 500, ANY)])
    bids, _ = _cleared(shapes, [5, 0], steps=10)
    assert bids[1] == 0.0 < bids[0]
