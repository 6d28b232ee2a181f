"""Who gets in: quotas first, as early and as cheaply as can be, then a fair queue in front of the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from engine.domain.errors import Overloaded
from engine.service.fair_queue import FairQueue
from engine.trust.permissions import Permission
from engine.trust.principal import Principal
from engine.trust.quotas import Buckets, Quotas, limited

PROOFS_BURST_S = 10.0
"""Bad credentials of a host that are looked at in one go, as seconds of its rate."""
STREAM_RETRY_S = 5.0
VISITS_MAX = 1_000
"""Open questions about health and reflection, of all hosts."""


class Admission:
    """The quotas of all accounts and the queue. `clock_s` is monotonic."""

    def __init__(self, quotas: Quotas, clock_s: Callable[[], float]) -> None:
        self._quotas, self._clock_s = quotas, clock_s
        self._calls = Buckets(quotas.calls_per_s, quotas.calls_burst, clock_s)
        proofs_burst = PROOFS_BURST_S * quotas.failed_proofs_per_s
        self._failed = Buckets(quotas.failed_proofs_per_s, proofs_burst, clock_s)
        self._visits = Buckets(quotas.visits_per_s, PROOFS_BURST_S * quotas.visits_per_s, clock_s)
        self._queue, self._streams = FairQueue(quotas, clock_s), Counter[str]()
        self._visiting = 0

    def under_way(self) -> int:
        """How many calls have their turn."""
        return self._queue.running

    def over_quota(self, principal: Principal, permission: Permission) -> Overloaded | None:
        """The refusal of a call that is beyond its account's quota, None if it is within."""
        if (missing_s := self._calls.missing_s(principal.account, permission.cost)) == 0.0:
            return None
        return limited("CALL_QUOTA", "this account has used up its quota of calls", missing_s)

    def is_full(self, principal: Principal, permission: Permission) -> bool:
        """Whether a call of this account would be refused a place in the queue."""
        return self._queue.is_full(principal.account, mutates=permission.mutates)

    @asynccontextmanager
    async def turn(
        self, principal: Principal, permission: Permission, *, stream: bool, remaining_s: float
    ) -> AsyncIterator[None]:
        """Inside it the call is served; Overloaded if it may not be now."""
        self.take(principal, permission)
        if stream:
            with _Stream(self._streams, principal.account, self._quotas.streams_max):
                yield
            return
        async with self.place(principal, mutates=permission.mutates, remaining_s=remaining_s):
            yield

    def take(self, principal: Principal, permission: Permission) -> None:
        """Count a call against its account's quota; Overloaded if it is beyond it."""
        if (refusal := self.over_quota(principal, permission)) is not None:
            raise refusal
        self._calls.take(principal.account, permission.cost)

    def room(self, principal: Principal, permission: Permission, most: int) -> int:
        """How many calls of a kind the account's quota has room for now, at most so many."""
        return min(most, self._calls.room(principal.account, permission.cost))

    def take_many(self, principal: Principal, permission: Permission, calls: int) -> None:
        """Count calls that there was room for."""
        self._calls.take(principal.account, permission.cost * calls)

    @asynccontextmanager
    async def place(self, principal: Principal, *, mutates: bool, remaining_s: float) -> AsyncIterator[None]:
        """Inside it is the account's turn among all callers; Overloaded if there is none in time."""
        ends_s = self._clock_s() + remaining_s
        since_s = await self._queue.enter(principal.account, mutates=mutates, ends_s=ends_s)
        try:
            yield
        finally:
            self._queue.leave(since_s)

    def check_host(self, host: str) -> None:
        """Overloaded if too many bad credentials came from there: looking at one costs a signature."""
        if (missing_s := self._failed.missing_s(host, 1.0)) > 0.0:
            raise limited("CREDENTIAL_QUOTA", "too many bad credentials came from this address", missing_s)

    @contextmanager
    def visit(self, host: str) -> Iterator[None]:
        """Around a call of health or reflection; Overloaded if the host comes too often or too many are there."""
        missing_s = self._visits.missing_s(host, 1.0)
        if missing_s > 0.0 or self._visiting >= VISITS_MAX:
            raise limited(
                "VISITOR_QUOTA", "too many questions about health or the contract", missing_s or STREAM_RETRY_S
            )
        self._visits.take(host, 1.0)
        self._visiting += 1
        try:
            yield
        finally:
            self._visiting -= 1

    def note_failed(self, host: str) -> None:
        """A credential from there was bad."""
        self._failed.take(host, 1.0)


class _Stream:
    """One open stream of an account."""

    def __init__(self, open_streams: Counter[str], account: str, most: int) -> None:
        self._open, self._account, self._most = open_streams, account, most

    def __enter__(self) -> None:
        if self._open[self._account] >= self._most:
            raise limited("STREAM_QUOTA", f"{self._most} streams of this account are open already", STREAM_RETRY_S)
        self._open[self._account] += 1

    def __exit__(self, *_: object) -> None:
        self._open[self._account] -= 1
        if not self._open[self._account]:
            del self._open[self._account]
