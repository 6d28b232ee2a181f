"""The market for what is left of a working fleet: equal nodes counted once, nothing promised that is not there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.sharing import worth
from solvers.sharing.fleet import Machines, SharedFleet
from solvers.sharing.worth import Wants, cleared, scale_of, states_of
from solvers.spare import MILLI, NOT_LIMITED, Spare
from tests.solvers.sharing.small_fleets import SmallFleet, machines_of, shapes_of, small_fleets, started


def spare_of(small: SmallFleet, fleet: SharedFleet) -> tuple[np.ndarray, Spare]:
    """(whole free GPUs, the rest) of a fleet, as the engine keeps it."""
    spare = Spare(fleet.cpu_left.copy(), fleet.memory_left.copy(), fleet.card_left.shape[1])
    spare.is_open[:] = True
    for node, cards in enumerate(small.machines.gpus.tolist()):
        for card in range(cards):
            if 0 < fleet.card_left[node, card] < MILLI:
                spare.cards.take(node, card, MILLI - int(fleet.card_left[node, card]))
    return (fleet.card_left == MILLI).sum(axis=1), spare


def one_by_one(fleet: SharedFleet) -> SharedFleet:
    """The slow twin: every node a row of its own, cards in the order in which they are kept."""
    left = -np.sort(-fleet.card_left, axis=1)
    machines = Machines(fleet.machines.model, (left > 0).sum(axis=1), fleet.cpu_left, fleet.memory_left)
    twin = SharedFleet(machines)
    twin.card_left, twin.untouched[:] = left, False
    return twin


def check_folding(small: SmallFleet, seed: int) -> None:
    """Compare the folded market with the slow twin."""
    fleet, shapes = started(small, seed), small.shapes
    free, spare = spare_of(small, fleet)
    arrived = np.bincount(small.arrivals, minlength=shapes.gpus.size).astype(np.float64)
    wants = Wants(shapes, arrived, shapes.gpu_milli_each().astype(np.float64))
    machines, cards = small.machines, fleet.card_left.shape[1]
    scale = scale_of(machines.gpus, machines.cpu_milli, machines.memory_mib)
    folded = cleared(wants, states_of(machines.model, free, spare, cards), scale, np.ones(0))
    twin = cleared(wants, one_by_one(fleet), scale, np.ones(0))
    np.testing.assert_allclose(folded.card, twin.card, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(folded.group, twin.group, rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(small_fleets(most_nodes=8), st.integers(0, 99))
def test_law_equal_nodes_count_as_often_as_they_are_there(small: SmallFleet, seed: int) -> None:
    """Law: the prices are those of the market in which every node stands for itself."""
    check_folding(small, seed)


def test_planted_equal_nodes_that_count_once_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law can fail: it does where many equal nodes stand beside few others, and each kind counts as one."""
    true = worth._alike
    monkeypatch.setattr(worth, "_alike", lambda *columns: (true(*columns)[0], np.ones_like(true(*columns)[1])))
    shapes = shapes_of([(1_000, 10, 1, 500, (True, False)), (1_000, 10, 1, 500, (False, True))])
    machines = machines_of([(0, 2, 8_000, 60)] * 7 + [(1, 2, 8_000, 60)])
    with pytest.raises(AssertionError, match="Not equal"):
        check_folding(SmallFleet(shapes, machines, np.array([0, 0, 1, 1, 1])), 0)


@settings(max_examples=40, deadline=None)
@given(small_fleets(most_nodes=8), st.integers(0, 99))
def test_law_rounding_promises_nothing_that_is_not_there(small: SmallFleet, seed: int) -> None:
    """Law: with too few rows for all states, CPU and memory of the fleet are no more than what is left."""
    fleet = started(small, seed)
    free, spare = spare_of(small, fleet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "STATES_MAX", 2 * 3**3)
        states = states_of(small.machines.model, free, spare, fleet.card_left.shape[1])
    left = fleet.card_left.any(axis=1)
    assert states.alike.sum() == left.sum()
    assert (states.alike * states.cpu_left).sum() <= fleet.cpu_left[left].sum()
    assert (states.alike * states.memory_left).sum() <= fleet.memory_left[left].sum()
    assert (states.alike * states.card_left.sum(axis=1)).sum() == fleet.card_left.sum()


def test_what_is_not_limited_is_worth_nothing() -> None:
    """Law: where no node limits CPU and memory they have no price, and one point of the grid says it all."""
    gpus = np.array([8, 8])
    none = np.full(2, NOT_LIMITED)
    assert scale_of(gpus, none, none) == (0.0, 0.0)
    assert scale_of(gpus, np.array([4_000, NOT_LIMITED]), none) == (2.0, 0.0)


def test_a_closed_node_is_not_for_sale() -> None:
    """Law: only open nodes with something left count."""
    spare = Spare(np.array([1_000, 1_000, 1_000]), np.array([10, 10, 10]), 2)
    spare.is_open[:2] = True
    states = states_of(np.zeros(3, dtype=np.int64), np.array([2, 0, 2]), spare, 2)
    assert states.card_left.tolist() == [[MILLI, MILLI]] and states.alike.tolist() == [1]
