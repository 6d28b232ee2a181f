"""The engine's placer as a policy of the replay: its books are the replay's, and it refuses nobody who fits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sharing_engine import EnginePolicy, with_gpus_only
from engine.backtest.sharing_replay import TILED_TO, play
from engine.backtest.sharing_trace import SharingTrace
from solvers.sharing.fleet import NOWHERE, Int, Shapes, SharedFleet
from tests.backtest.sharing_worlds import small_trace
from tests.full_size import size
from tests.solvers.sharing.small_fleets import places_of


class Watched(EnginePolicy):
    """Checks every choice against the replay's own fleet."""

    def __init__(self, shapes: Shapes, fleet: SharedFleet, every: int | None) -> None:
        super().__init__(shapes, fleet, every)
        self.placed = 0

    def choose(self, shape: int) -> tuple[int, int]:
        node, card = super().choose(shape)
        places = places_of(self._shapes, self._fleet, shape)
        assert (node, card) in places if places else node == NOWHERE
        self.placed += node != NOWHERE
        return node, card


@pytest.mark.parametrize("every", [None, 3])
@settings(max_examples=size(5, 50), deadline=None)
@given(seed=st.integers(0, 10_000))
def test_law_the_engine_places_what_fits(every: int | None, seed: int) -> None:
    """Law: with and without prices a pod has a place exactly if it fits somewhere, and gets one that it fits."""
    trace, made = with_gpus_only(small_trace(seed)), []

    def make(shapes: Shapes, fleet: SharedFleet, _: Int) -> Watched:
        made.append(Watched(shapes, fleet, every))
        return made[0]

    arrivals = trace.arrivals(seed, TILED_TO)
    played = play(trace, make, arrivals)
    assert made[0].placed == (played.node != NOWHERE).sum() and arrivals.size > 0


def test_pods_and_machines_without_a_gpu_are_left_out() -> None:
    """Law: what is left has GPUs."""
    trace: SharingTrace = with_gpus_only(small_trace(1))
    assert (trace.machines.gpus > 0).all() and (trace.shapes.gpus[trace.pods] > 0).all()
