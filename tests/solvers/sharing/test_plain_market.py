"""The market as it is cleared against the market written down plainly: equal to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.sharing import clearing, tables
from solvers.sharing.answer import answer, sellers
from solvers.sharing.clearing import empty_market
from solvers.sharing.fleet import Bool, Int
from solvers.sharing.kernels import Arrays
from solvers.sharing.tables import Float
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


CROWDED = SmallFleet(
    shapes_of(
        [
            (9_000, 10, 1, 470, (True, True)),
            (1_000, 10, 1, 470, (True, True)),
            (1_000, 10, 1, 330, (True, False)),
            (3_000, 10, 1, 330, (False, True)),
            (3_000, 25, 1, 190, (True, True)),
            (4_000, 10, 1, 1_000, (True, True)),
            (4_000, 10, 2, 1_000, (False, True)),
        ]
    ),
    machines_of([(0, 3, 12_000, 60)] * 3 + [(1, 3, 8_000, 60)] * 2),
    np.array([0, 1, 1, 2, 3, 4, 4, 5, 6, 2], dtype=np.int64),
)
"""Rivals with unlike needs, sizes that lose, pods of several cards, CPU that binds, equal nodes untouched."""


@pytest.mark.parametrize("seed", range(8))
def test_the_crowded_market_is_the_same(seed: int) -> None:
    """Law: as above, where everything that is left out is there to be left out."""
    check_market(CROWDED, seed, steps=6)


def strangers(accepted: Bool, place: Int) -> Int:
    """Whoever takes the same place is a rival, whatever models it accepts."""
    return np.array([place.tolist().index(one) for one in place.tolist()])


def all_alike(fleet: Arrays) -> Arrays:
    """Every seller is the twin of the first one of its model."""
    found = sellers(fleet)
    model = fleet[4][found[0]].tolist()
    return (*found[:4], np.array([model.index(one) for one in model]))


def skipped_early(*given: Any) -> None:
    """A size is skipped unless it brings more than smaller ones by the highest bid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "CLEARLY", -1.0)
        tables.fill.py_func(*given)  # type: ignore[attr-defined]


class Stale:
    """Columns of the first step are taken for known in all later ones."""

    def __init__(self) -> None:
        self.known: Bool | None = None

    def __call__(self, *given: Any) -> Float:
        known = given[6][-1]
        if self.known is not None:
            known |= self.known
        used = answer(*given)
        self.known = known.copy() if self.known is None else self.known
        return used


@pytest.mark.parametrize(
    ("part", "bug"), [("rivals", strangers), ("sellers", all_alike), ("fill", skipped_early), ("answer", Stale())]
)
def test_planted_bugs_of_a_clearing_are_found(
    part: str, bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law can fail: it does when more is left out than may be."""
    monkeypatch.setattr(clearing, "clear", clearing.clear.py_func)  # type: ignore[attr-defined]
    check_market(CROWDED, 1, steps=6)
    monkeypatch.setattr(clearing, part, bug)
    with pytest.raises(AssertionError, match="differ"):
        check_market(CROWDED, 1, steps=6)
