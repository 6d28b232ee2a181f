"""Looking after leases that must leave nodes: find them, repair them, a bounded piece of work at a time."""

from __future__ import annotations

import logging
import time

from engine.domain.errors import AuditFailed, Overloaded, Unavailable
from engine.market.commands import RepairLease
from engine.market.failure import uprooted_leases
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine

log = logging.getLogger("walras.failures")
STEP_NS = 10_000_000
"""After so long a step begins no further repair."""
NEVER_US = 2**62
SCANNED_MAX = 2_000
"""Leases looked at in one step."""


class Repairs:
    """Repairs leases, the oldest first. Whenever nodes failed or a notice is over all leases are looked at once.

    An index from nodes to leases would spare the look, and cost every deployment an entry a node.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen = -1
        self._next_end_us = NEVER_US
        self._to_scan: list[str] = []
        self._uprooted: list[str] = []

    def is_due(self) -> bool:
        """Whether the notice of a drain ended since the last look."""
        return self._engine.now_us() >= self._next_end_us

    def step(self) -> bool:
        """One piece of work; whether there is more. Overloaded, Unavailable if the journal takes nothing now."""
        state = self._engine.state
        if state.liveness.uprootings != self._seen or self.is_due():
            self._seen, now_us = state.liveness.uprootings, self._engine.now_us()
            ends = (at_us for at_us in state.liveness.drains.values() if at_us > now_us)
            self._next_end_us = min(ends, default=NEVER_US)
            self._to_scan = list(reversed(state.leases))
        if self._to_scan:
            chunk = self._to_scan[: -SCANNED_MAX - 1 : -1]
            del self._to_scan[-SCANNED_MAX:]
            self._uprooted = uprooted_leases(state, chunk)[::-1] + self._uprooted
        elif not self._uprooted:
            return False
        begun_ns = time.perf_counter_ns()
        while self._uprooted and time.perf_counter_ns() - begun_ns < STEP_NS:
            self._repair(self._uprooted.pop())
        return True

    def _repair(self, lease_id: str) -> None:
        try:
            self._engine.submit(RepairLease(lease_id), NO_STOPWATCH)
        except (Overloaded, Unavailable):
            self._uprooted.append(lease_id)
            raise
        except AuditFailed as error:
            log.error("leases/%s stays where it is: %s", lease_id, error)
