"""One stream of pods through one policy: what arrived, what was placed, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.backtest.sharing_trace import SharingTrace
from solvers.sharing.fleet import NOWHERE, Int, Shapes, SharedFleet

LEVELS = (100, 130)
"""Arrived demand in percent of the GPUs there are, at which shares are reported."""
TILED_TO = 1.3


class Policy(Protocol):
    """Chooses a place for each pod as it comes; the replay takes it."""

    def choose(self, shape: int) -> tuple[int, int]:
        """(node, card): NOWHERE if the pod fits on no node, card WHOLE for whole GPUs or none."""
        ...

    def took(self, node: int) -> None:
        """Something was placed on this node."""
        ...


MakePolicy = Callable[[Shapes, SharedFleet, Int], Policy]
"""From the kinds of pods, the fleet it will place on, and the counts of each kind in the trace."""


@dataclass(frozen=True, slots=True)
class Played:
    """Columns over arrivals: milli asked for so far, milli placed so far, and each pod's node and cards."""

    kind: Int
    arrived_milli: Int
    placed_milli: Int
    node: Int
    """NOWHERE if refused."""
    cards: Int
    """The cards of the node that the pod got, as bits."""
    capacity_milli: int

    def share_at(self, level: int) -> float:
        """Share of GPU capacity placed when demand stands at `level` percent of it.

        As published: the mean over all arrivals at which demand rounds to that percent; if there is none (small
        traces), what stood before.
        """
        percent = np.rint(100.0 * self.arrived_milli / self.capacity_milli)
        at = self.placed_milli[percent == level]
        placed = at if at.size else self.placed_milli[percent < level][-1:]
        return float(placed.mean()) / self.capacity_milli if placed.size else 0.0


def play(trace: SharingTrace, make: MakePolicy, arrivals: Int) -> Played:
    """Nothing leaves, nothing moves; a pod that its policy puts nowhere is refused."""
    shapes, fleet = trace.shapes, SharedFleet(trace.machines)
    policy = make(shapes, fleet, trace.counts())
    node, cards = np.full(arrivals.size, NOWHERE), np.zeros(arrivals.size, dtype=np.int64)
    for place, shape in enumerate(arrivals.tolist()):
        chosen, card = policy.choose(shape)
        if chosen == NOWHERE:
            continue
        node[place], cards[place] = chosen, fleet.take(shapes, shape, chosen, card)
        policy.took(chosen)
    milli = shapes.gpu_milli_each()[arrivals]
    placed = np.cumsum(np.where(node == NOWHERE, 0, milli))
    return Played(arrivals, np.cumsum(milli), placed, node, cards, trace.capacity_milli)
