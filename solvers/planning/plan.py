"""The answer to a joint problem: who stands where, the prices that prove it, and how the search went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from solvers.planning.refusals import Refusals

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a search ends. `work`: rounds of improvement, the same on every machine; None: until nothing helps.

    `time_s`: wall-clock seconds from the start, None for no limit. Only a run that the clock did not end is
    reproducible byte for byte.
    """

    work: int | None = None
    time_s: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """An earlier plan in the numbers of the problem at hand.

    `request`, `node`, `gpus` (rows,), sorted by request: whole placements that keep their gangs' constraints on
    the fleet as it is now; free GPUs may have changed, and whoever runs is passed over. `node_price` (nodes,)
    float64: what proved the earlier plan, micro-USD per GPU-hour; NaN for nodes that had no capacity then.
    """

    request: Int
    node: Int
    gpus: Int
    node_price: Float


class Progress(NamedTuple):
    """One step of the search, as it is reported while it runs. Unknown values are None."""

    phase: str
    elapsed_s: float
    welfare_micro_usd_per_hour: int | None
    bound_micro_usd_per_hour: int | None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class StrongerBound:
    """A bound that no linear price proves, and the name of its method."""

    micro_usd_per_hour: int
    method: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The best plan found. Money is integer micro-USD per hour.

    `request`, `node`, `gpus`: the placements (rows,), pinned rows included, sorted by request then node.
    `card` (rows,): of a part the card that it takes, else `NO_CARD`; None if no gang has needs beside whole GPUs.
    `node_price` (nodes,) float64 >= 0, micro-USD per GPU-hour: proves `bound` = ⌈D(node_price)⌉ >= welfare.
    `ended_by_clock`: the time limit, not the work limit, ended the search. `refusals`: why each gang without rows
    has none, in terms of `row_table` (rows, 11), the folded fleet; None from a planner that does not explain.
    """

    request: Int
    node: Int
    gpus: Int
    welfare: int
    node_price: Float
    bound: int
    stronger: StrongerBound | None
    history: tuple[Progress, ...]
    ended_by_clock: bool
    refusals: Refusals | None = None
    row_table: Int | None = None
    card: Int | None = None

    @property
    def gap(self) -> float | None:
        """(bound − W)/bound: 0 if they are equal, None if the bound is not positive."""
        if self.bound == self.welfare:
            return 0.0
        return (self.bound - self.welfare) / self.bound if self.bound > 0 else None
