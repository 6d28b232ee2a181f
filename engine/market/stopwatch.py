"""Where the time of one decision goes. The clock is handed in, so that `decide` itself reads none."""

from __future__ import annotations

from collections.abc import Callable


class Stopwatch:
    """Laps of one call. `clock_ns` returns nanoseconds; `laps_us` maps a stage to its microseconds."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._last_ns = clock_ns()
        self.laps_us: dict[str, int] = {}

    def again(self) -> Stopwatch:
        """Another one by the same clock, from now on."""
        return Stopwatch(self._clock_ns)

    def lap(self, stage: str) -> None:
        """Charge the time since the last lap to a stage."""
        now_ns = self._clock_ns()
        self.laps_us[stage] = self.laps_us.get(stage, 0) + (now_ns - self._last_ns) // 1_000
        self._last_ns = now_ns


NO_STOPWATCH = Stopwatch(lambda: 0)
"""For decisions that nobody times."""
