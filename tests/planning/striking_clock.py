"""A clock for searches that shows when the time is over by its own count, however fast the machine is."""

from __future__ import annotations

LATE_S = 1e9
"""Later than any limit."""


class StrikingClock:
    """Shows 0 so many times, then `LATE_S`. `looks`: how often it was read."""

    def __init__(self, strikes_after: int) -> None:
        self.strikes_after, self.looks = strikes_after, 0

    def __call__(self) -> float:
        self.looks += 1
        return 0.0 if self.looks <= self.strikes_after else LATE_S
