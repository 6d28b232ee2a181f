"""What a run keeps while it lasts: its limits, its clock, and what it reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from solvers.planning.plan import Limits, OnProgress, Progress


@dataclass(slots=True)
class Run:
    """What a run keeps: the clock, what it reported, and whether the clock ever ended anything."""

    limits: Limits
    on_progress: OnProgress | None
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    history: list[Progress] = field(default_factory=list)
    ended_by_clock: bool = False

    def __post_init__(self) -> None:
        """The run begins now."""
        self.started = self.clock()

    def report(self, phase: str, welfare: int | None, bound: float | None) -> None:
        """Note and pass on one step."""
        whole = None if bound is None else int(np.ceil(bound))
        step = Progress(phase, self.clock() - self.started, welfare, whole)
        self.history.append(step)
        if self.on_progress is not None:
            self.on_progress(step)

    @property
    def left_s(self) -> float:
        """Seconds left to search, inf without a limit; what follows takes half as long again as pricing did."""
        if self.limits.time_s is None:
            return float("inf")
        priced = [step.elapsed_s for step in self.history if step.phase in ("price", "place")]
        reserve_s = 1.5 * (priced[1] - priced[0]) if len(priced) == 2 else 0.0
        return self.limits.time_s - reserve_s - (self.clock() - self.started)

    def is_out_of_time(self) -> bool:
        """Whether to stop here. Whoever asks stops if so: the run is then one that the clock ended."""
        if self.left_s <= 0:
            self.ended_by_clock = True
        return self.ended_by_clock
