"""The clock of a planning job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from solvers.planning.plan import OnProgress, Progress


@dataclass(slots=True)
class JobClock:
    """Seconds since the job began, and what each phase took."""

    began_s: float
    on_progress: OnProgress | None
    phases: dict[str, float] = field(default_factory=dict)

    def elapsed_s(self) -> float:
        """Seconds since the job began."""
        return time.perf_counter() - self.began_s

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Report and time one phase."""
        started_s = self.elapsed_s()
        if self.on_progress is not None:
            self.on_progress(Progress(name, started_s, None, None))
        yield
        self.phases[name] = self.elapsed_s() - started_s

    def shifted(self, by_s: float) -> OnProgress | None:
        """The listener, told seconds since the job began by a search that counts from its own start."""
        listener = self.on_progress
        if listener is None:
            return None
        return lambda step: listener(step._replace(elapsed_s=step.elapsed_s + by_s))
