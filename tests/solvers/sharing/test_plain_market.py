"""The market as it is cleared against the market written down plainly: equal to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.sharing import answer, clearing, columns, tables
from solvers.sharing.clearing import clear, empty_market
from tests.full_size import size
from tests.solvers.sharing.plain_market import plain_clear
from tests.solvers.sharing.small_fleets import SmallFleet, machines_of, shapes_of, small_fleets, started

GRID = (np.tile([0.0, 0.03, 0.08, 0.3, 0.5], 3), np.repeat([0.0, 4.0, 20.0], 5))
STEPS = 3


def check_market(small: SmallFleet, seed: int, steps: int = STEPS) -> None:
    """Fills, bids and tables after some steps are those of the slow twin."""
    fleet, shapes = started(small, seed), small.shapes
    arrived = np.bincount(small.arrivals, minlength=shapes.gpus.size).astype(np.float64)
    pays = shapes.gpu_milli_each() * np.random.default_rng(seed).uniform(0.5, 1.5, arrived.size)
    market = empty_market(shapes.models.shape[1], fleet.card_left.shape[1], GRID[0].size)
    filled, bid = np.ones(arrived.size), np.zeros(arrived.size)
    clearing.clear(shapes.arrays(), fleet.arrays(), arrived, pays, GRID, market, filled, bid, steps)
    twin_filled, twin_bid, twin = plain_clear(shapes, fleet, arrived, pays, GRID, steps)
    assert bid.tobytes() == twin_bid.tobytes(), "bids differ"
    assert market[0][0].tobytes() == twin.card.tobytes(), "cards differ"
    assert market[0][1].tobytes() == twin.group.tobytes(), "groups differ"
    assert filled.tobytes() == twin_filled.tobytes(), "fills differ"


@settings(max_examples=size(20, 400), deadline=None)
@given(small_fleets(), st.integers(0, 99))
def test_law_what_is_left_out_changes_no_bit(small: SmallFleet, seed: int) -> None:
    """Law: rivals, sizes skipped, columns found when asked for and twins change nothing."""
    check_market(small, seed)
