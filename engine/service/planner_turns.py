"""Whose turn the one planner is: who has just used it lets those go first who were sent away meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.domain.errors import Overloaded
from engine.trust.quotas import limited

RESERVED_S = 12.0
"""How long a tenant that was sent away is waited for: a little more than twice what it is told to wait."""
RETRY_S = 5.0


class PlannerTurns:
    """Turns by tenant. `clock_s` is monotonic."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._last = ""
        self._sent_away_at_s: dict[str, float] = {}

    @contextmanager
    def turn(self, tenant_id: str) -> Iterator[None]:
        """Around a search; Overloaded if others go first. An Overloaded from inside counts as being sent away."""
        self._forget()
        if self._last == tenant_id and self._sent_away_at_s.keys() - {tenant_id}:
            raise limited("PLANNER_TURN", "others wait for the planner, and you have just used it", RETRY_S)
        try:
            yield
        except Overloaded:
            self._sent_away_at_s[tenant_id] = self._clock_s()
            raise
        except BaseException:
            self._used(tenant_id)
            raise
        self._used(tenant_id)

    def _used(self, tenant_id: str) -> None:
        self._last = tenant_id
        self._sent_away_at_s.pop(tenant_id, None)

    def _forget(self) -> None:
        since_s = self._clock_s() - RESERVED_S
        self._sent_away_at_s = {name: at_s for name, at_s in self._sent_away_at_s.items() if at_s > since_s}
