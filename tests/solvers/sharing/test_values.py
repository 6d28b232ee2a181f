"""Values of nodes against slow twins, and the laws that make a difference of values a cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from solvers.sharing import choice
from solvers.sharing.fleet import NOWHERE, SharedFleet, fits
from solvers.sharing.scheduler import SharingScheduler
from solvers.sharing.tables import Float, empty_tables, fill, places, rivals
from solvers.sharing.values import empty_values, value_all, value_node
from tests.full_size import size
from tests.solvers.sharing.fillings import best_filling, value_by_definition
from tests.solvers.sharing.plain_market import plain_place
from tests.solvers.sharing.small_fleets import SmallFleet, places_of, small_fleets, started

WORLDS = size(20, 400)
GRID = (np.repeat([0.0, 0.03, 0.08, 0.3], 3), np.tile([0.0, 4.0, 20.0], 4))


class Valued:
    """Tables and values of a fleet for given bids."""

    def __init__(self, small: SmallFleet, bid: Float, fleet: SharedFleet) -> None:
        self.small, self.bid, self.fleet = small, bid, fleet
        nodes, points = small.machines.gpus.size, GRID[0].size
        self.tables = empty_tables(small.shapes.models.shape[1], fleet.card_left.shape[1], points)
        place = places(small.shapes.arrays(), fleet.card_left.shape[1])
        fill(small.shapes.arrays(), place, rivals(small.shapes.models, place), bid, GRID, self.tables)
        self.worth: tuple[Float, Float] = self.tables[0], self.tables[1]
        self.valued = empty_values(nodes, points)
        value_all(fleet.arrays(), GRID, *self.worth, self.valued)

    @property
    def value(self) -> Float:
        value: Float = self.valued[2]
        return value

    def place(self, shape: int) -> tuple[int, int, float]:
        shapes, fleet = self.small.shapes.arrays(), self.fleet.arrays()
        return choice.least_cost_place(shapes, fleet, GRID, *self.worth, self.valued, shape)

    def cost_by_doing(self, shape: int, node: int, card: int) -> float:
        """Take it on a copy, value the node again from nothing, subtract."""
        after = SharedFleet(self.small.machines)
        after.cpu_left, after.memory_left = self.fleet.cpu_left.copy(), self.fleet.memory_left.copy()
        after.card_left = self.fleet.card_left.copy()
        after.take(self.small.shapes, shape, node, card)
        valued = empty_values(self.value.size, GRID[0].size)
        value_node(after.arrays(), node, GRID, *self.worth, valued)
        return float(self.value[node] - valued[2][node])


@st.composite
def valued(draw: st.DrawFn) -> Valued:
    small = draw(small_fleets())
    rates = draw(st.lists(st.floats(0.0, 3.0), min_size=small.shapes.gpus.size, max_size=small.shapes.gpus.size))
    bid = np.array(rates, dtype=np.float64) * small.shapes.gpu_milli_each()
    return Valued(small, bid, started(small, draw(st.integers(0, 99))))


@settings(max_examples=WORLDS)
@given(valued())
def test_a_value_is_what_its_definition_says(world: Valued) -> None:
    """Law: tables and vectors are the plain minimum over the grid, node by node."""
    for node in range(world.value.size):
        told = value_by_definition(world.small.shapes, world.bid, world.fleet, node, GRID)
        assert world.value[node] == pytest.approx(told, abs=1e-6)


@settings(max_examples=WORLDS)
@given(valued())
def test_a_value_is_never_below_the_best_filling(world: Valued) -> None:
    """Law: V is an upper bound of what any set of pods that truly fits would bring."""
    for node in range(world.value.size):
        assert world.value[node] >= best_filling(world.small.shapes, world.bid, world.fleet, node) - 1e-6


@settings(max_examples=WORLDS)
@given(valued())
def test_the_place_is_the_cheapest_of_all(world: Valued) -> None:
    """Law: the kernel's cost is the least over every place, none is negative, and NOWHERE means that none fits."""
    shapes, fleet = world.small.shapes, world.fleet
    for shape in range(shapes.gpus.size):
        costs = {place: world.cost_by_doing(shape, *place) for place in places_of(shapes, fleet, shape)}
        node, card, cost = world.place(shape)
        assert (node == NOWHERE) == (not costs)
        if costs:
            assert cost == pytest.approx(min(costs.values()), abs=1e-6)
            assert costs[node, card] == pytest.approx(cost, abs=1e-6)
            assert cost >= -1e-6


@settings(max_examples=WORLDS)
@given(valued())
def test_what_fits_is_told_alike(world: Valued) -> None:
    """Law: the kernel's `fits` is the rule as it is said."""
    shapes, fleet = world.small.shapes, world.fleet
    for shape in range(shapes.gpus.size):
        nodes = {node for node, _ in places_of(shapes, fleet, shape)}
        told = {n for n in range(world.value.size) if fits(shapes.arrays(), fleet.arrays(), shape, n)}
        assert told == nodes


@settings(max_examples=WORLDS)
@given(small_fleets(), st.integers(0, 99))
def test_a_scheduler_never_refuses_what_fits(small: SmallFleet, seed: int) -> None:
    """Law: whatever the prices, a pod is refused only if it fits nowhere, and is put where it fits."""
    fleet = started(small, seed)
    scheduler = SharingScheduler(small.shapes, fleet)
    for shape in small.arrivals.tolist():
        places = places_of(small.shapes, fleet, shape)
        chosen = scheduler.choose(shape)
        assert chosen in places if places else chosen[0] == NOWHERE
        if places:
            fleet.take(small.shapes, shape, *chosen)
            scheduler.took(chosen[0])


def check_choice(world: Valued) -> None:
    """Compare with every place tried."""
    for shape in range(world.small.shapes.gpus.size):
        told = plain_place(world.small.shapes, world.fleet, GRID, *world.worth, shape)
        assert world.place(shape) == told, f"shape {shape}"


@settings(max_examples=WORLDS)
@given(valued())
def test_what_is_left_out_changes_no_choice(world: Valued) -> None:
    """Law: place and cost are those of trying every place, to the last bit, ties too."""
    check_choice(world)


WITH_ROOM = choice._with_room


def blind_to_room(*given: Any) -> int:
    """Nodes beyond the first are not seen."""
    return min(WITH_ROOM(*given), 1)


def no_ties(cost: float, left: int, best_cost: float, best_left: int) -> bool:
    """The tighter card does not come first among equals."""
    return cost < best_cost


def bound_too_high(cost: float, left: int, best_cost: float, best_left: int) -> bool:
    """A place counts only if it is cheaper by a milli."""
    return cost < best_cost - 1.0


@pytest.mark.parametrize(
    ("part", "bug"), [("_with_room", blind_to_room), ("better", no_ties), ("better", bound_too_high)]
)
def test_planted_bugs_of_the_choice_are_found(
    part: str, bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law can fail: each planted bug breaks it in some small world."""

    @settings(max_examples=100, database=None, deadline=None, phases=[Phase.generate])
    @given(valued())
    def law(world: Valued) -> None:
        check_choice(world)

    for name in ("_for_part", "_for_whole", "least_cost_place"):
        monkeypatch.setattr(choice, name, getattr(choice, name).py_func)
    monkeypatch.setattr(choice, part, bug)
    with pytest.raises(AssertionError, match="shape"):
        law()
