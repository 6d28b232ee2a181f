"""How much a caller may ask for: a bucket of calls for each account, filled at a steady rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from engine.domain.errors import InvalidInput, Overloaded, Violation

BUCKETS_MAX = 100_000
UNBOUNDED = 10**9


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one account may do, and how much is done at once for all. Checked when born.

    `calls_per_s` and `calls_burst` count a cheap call as 1 and a dear one as its cost in the table of permissions.
    `running_max`: calls that are decided or await the disk together; beyond it they queue, at most `waiting_max`
    for an account. `streams_max`: open streams of an account. `failed_proofs_per_s`: bad credentials of one host
    that are looked at. `load_percent_max`: of the loop's time, what suppliers' fleet loads may take together.
    `visits_per_s`: questions of one host about health and the contract, which need no credential.
    """

    calls_per_s: float = 200.0
    calls_burst: float = 400.0
    running_max: int = 32
    waiting_max: int = 64
    streams_max: int = 16
    failed_proofs_per_s: float = 20.0
    load_percent_max: float = 10.0
    visits_per_s: float = 50.0

    def __post_init__(self) -> None:
        found = [
            Violation(each.name, f"must be between 1 and {UNBOUNDED:,}")
            for each in fields(self)
            if not 1 <= getattr(self, each.name) <= UNBOUNDED
        ]
        if found:
            raise InvalidInput(found)


NO_QUOTAS = Quotas(UNBOUNDED, UNBOUNDED, 64, UNBOUNDED, UNBOUNDED, UNBOUNDED, UNBOUNDED, UNBOUNDED)
"""Of development mode: one machine, one user. Calls still wait for a turn, late ones are refused."""


class Buckets:
    """A bucket for each name, full at first. `clock_s` is monotonic."""

    def __init__(self, per_s: float, burst: float, clock_s: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock_s = per_s, burst, clock_s
        self._left: dict[str, tuple[float, float]] = {}

    def missing_s(self, name: str, cost: float) -> float:
        """Seconds until so much is there, 0.0 if it is. A cost above the whole bucket waits for a full one."""
        return max(0.0, min(cost, self._burst) - self._now(name)) / self._per_s

    def room(self, name: str, cost: float) -> int:
        """How many times a cost could be taken now."""
        return int(self._now(name) // cost)

    def take(self, name: str, cost: float) -> None:
        """Take so much; what is missing is owed."""
        left = self._now(name) - cost
        self._left.pop(name, None)
        self._left[name] = left, self._clock_s()  # last in the order, so that the first is the longest unused
        if len(self._left) > BUCKETS_MAX:
            del self._left[next(iter(self._left))]

    def _now(self, name: str) -> float:
        left, at_s = self._left.get(name, (self._burst, 0.0))
        return min(self._burst, left + (self._clock_s() - at_s) * self._per_s)


def limited(reason: str, message: str, retry_after_s: float) -> Overloaded:
    """The refusal of what is too much, with a typed reason."""
    refusal = Overloaded(message, max(0.001, retry_after_s))
    refusal.reason = reason
    return refusal
