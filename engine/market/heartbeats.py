"""From heartbeats to nodes that are lost or back: with hysteresis, so that a flapping node changes little.

A node is lost after `missed_max` periods without a heartbeat. It is back after `good_min` heartbeats in a row,
one a period, none later than `LATE_FACTOR` periods after the one before; many in one period count as one. So a
return takes at least `good_min` - 1 periods after a loss, and the next loss `missed_max` silent periods after
the return: however a node flaps, it changes at most twice in that time. Times are handed in; arrivals are kept
here and in no journal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import InvalidInput, Violation

Int = NDArray[np.int64]
LATE_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class HeartbeatRules:
    """`period_s`: how often nodes send one; `missed_max`, `good_min`: see the module. Checked when born."""

    period_s: float = 10.0
    missed_max: int = 6
    good_min: int = 6

    def __post_init__(self) -> None:
        ranges = {"period_s": (0.1, 3_600), "missed_max": (2, 1_000), "good_min": (2, 1_000)}
        found = [
            Violation(name, f"must be between {low} and {high:,}")
            for name, (low, high) in ranges.items()
            if not low <= getattr(self, name) <= high
        ]
        if found:
            raise InvalidInput(found)

    @property
    def silence_us(self) -> int:
        """The longest silence of a node that is not lost."""
        return round(self.period_s * self.missed_max * 1_000_000)

    @property
    def steady_us(self) -> int:
        """How long a good run must be, from its first heartbeat to its last."""
        return round(self.period_s * (self.good_min - 1) * 1_000_000)

    @property
    def late_us(self) -> int:
        """The longest time between two heartbeats of a good run."""
        return round(self.period_s * LATE_FACTOR * 1_000_000)


class Heartbeats:
    """The last heartbeat of each node, 0 if it is not watched, and since when none was late; (nodes,) each."""

    def __init__(self, rules: HeartbeatRules) -> None:
        self.rules = rules
        self.last_us = np.zeros(0, dtype=np.int64)
        self._steady_since_us = np.zeros(0, dtype=np.int64)

    def watch(self, nodes: Int, fleet_size: int, now_us: int) -> None:
        """Watch some nodes as if they had been heard now: after a start nobody is lost before a full silence."""
        self._grow(fleet_size)
        self.last_us[nodes] = now_us
        self._steady_since_us[nodes] = now_us

    def beat(self, nodes: Int, fleet_size: int, now_us: int) -> Int:
        """Take in a heartbeat of distinct nodes; those that were not watched before."""
        self._grow(fleet_size)
        before = self.last_us[nodes]
        in_time = (before > 0) & (now_us - before <= self.rules.late_us)
        self._steady_since_us[nodes] = np.where(in_time, self._steady_since_us[nodes], now_us)
        self.last_us[nodes] = now_us
        new: Int = nodes[before == 0]
        return new

    def silent(self, now_us: int) -> Int:
        """Watched nodes whose silence is too long, ascending."""
        return np.flatnonzero((self.last_us > 0) & (now_us - self.last_us > self.rules.silence_us))

    def steady(self, nodes: Int, now_us: int) -> Int:
        """Those of some nodes that have run well for long enough, and still do."""
        last_us = self.last_us[nodes]
        fresh = now_us - last_us <= self.rules.late_us
        kept: Int = nodes[fresh & (last_us - self._steady_since_us[nodes] >= self.rules.steady_us)]
        return kept

    def _grow(self, fleet_size: int) -> None:
        missing = fleet_size - self.last_us.size
        if missing > 0:
            self.last_us = np.append(self.last_us, np.zeros(missing, dtype=np.int64))
            self._steady_since_us = np.append(self._steady_since_us, np.zeros(missing, dtype=np.int64))
