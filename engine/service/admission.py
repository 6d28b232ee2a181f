"""Calls that cannot be answered in time are refused at once, so that the others are answered in time.

Under overload calls wait in front of the event loop. Without this they are all decided, each a little after its
caller has gone, and what was committed for nobody was in the way of the next. What a refusal says is when to come
back. Measured in benchmarks/RESULTS.md, family `overload`.
"""

from __future__ import annotations

from engine.domain.errors import Overloaded

WEIGHT = 0.1
"""Of the newest call in what a call is expected to take."""
MARGIN = 2.0
"""The reply has a way to go, too."""
RETRY_AFTER_S_MIN = 0.25


class Admission:
    """What calls of one method take, and whether one more would be answered in time."""

    def __init__(self) -> None:
        self.expected_s = 0.0

    def admit(self, remaining_s: float | None) -> None:
        """Overloaded if less is left of the deadline than a call takes. None: the caller set no deadline.

        Every refusal makes the next call more welcome: one slow call does not shut the door for good.
        """
        if remaining_s is not None and remaining_s < MARGIN * self.expected_s:
            after_s = max(RETRY_AFTER_S_MIN, MARGIN * self.expected_s)
            self.expected_s *= 1 - WEIGHT
            raise Overloaded("the answer would come after the call's deadline", after_s)

    def note(self, took_s: float) -> None:
        """A call was answered after so long."""
        self.expected_s += WEIGHT * (took_s - self.expected_s)
