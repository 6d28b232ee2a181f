"""Who is served next when not all can be: changes before reads, accounts in turn, what comes too late not at all.

Calls are decided on one loop, so letting more of them in does not serve more of them; it only makes all of them
late. `running_max` are in at once (enough for one group commit); the others wait in bounded queues, one for each
account and kind. A caller that floods fills its own queue, not the engine.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.domain.errors import Overloaded
from engine.trust.quotas import Quotas, limited

LEARNING = 0.05
"""Weight of the newest call in the mean time that a call takes."""
RETRY_S, FULL_RETRY_S = 0.25, 1.0
WAIT_MAX_S = 0.5
"""Who would wait longer is told to come back at once: it costs a tenth of what a call costs that fails late."""


@dataclass(slots=True)
class _Waiting:
    turn: asyncio.Future[None]
    ends_s: float


Line = OrderedDict[str, deque[_Waiting]]
"""Accounts that wait, by whose turn comes next."""


class FairQueue:
    """The gate to the loop. `clock_s` is monotonic."""

    def __init__(self, quotas: Quotas, clock_s: Callable[[], float]) -> None:
        self._quotas, self._clock_s = quotas, clock_s
        self._changes, self._reads = Line(), Line()
        self._running, self._mean_s = 0, 0.001

    @property
    def running(self) -> int:
        """Calls whose turn it is."""
        return self._running

    def is_full(self, account: str, *, mutates: bool) -> bool:
        """Whether one more call of an account would wait behind too many, or for too long."""
        line = self._changes if mutates else self._reads
        waiting = len(line.get(account, ()))
        turn_s = self._mean_s / self._quotas.running_max
        return waiting >= self._quotas.waiting_max or waiting * len(line) * turn_s > WAIT_MAX_S

    async def enter(self, account: str, *, mutates: bool, ends_s: float) -> float:
        """Wait for the call's turn; when it came. Overloaded if its queue is full or its deadline nearly gone."""
        if self._clock_s() + self._mean_s > ends_s:
            raise _too_late()
        if self._running < self._quotas.running_max:
            self._running += 1
        else:
            await self._wait(self._changes if mutates else self._reads, account, ends_s)
        return self._clock_s()

    def leave(self, since_s: float) -> None:
        """Let the next one in. `since_s`: when the call that leaves was let in."""
        self._mean_s += LEARNING * (self._clock_s() - since_s - self._mean_s)
        self._running -= 1
        self._let_in()

    async def _wait(self, line: Line, account: str, ends_s: float) -> None:
        queue = line.setdefault(account, deque())
        if len(queue) >= self._quotas.waiting_max:
            self._drop_late(queue)
        if self.is_full(account, mutates=line is self._changes):
            raise queue_full()
        waiting = _Waiting(asyncio.get_running_loop().create_future(), ends_s)
        queue.append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._running -= 1  # its turn came in the moment it went away
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._running < self._quotas.running_max and (waiting := self._next()) is not None:
            self._running += 1
            waiting.turn.set_result(None)

    def _next(self) -> _Waiting | None:
        """Of the account whose turn it is, the call that has waited longest and can still be in time."""
        for line in (self._changes, self._reads):
            while line:
                account, queue = line.popitem(last=False)
                found = self._first_in_time(queue)
                if queue:
                    line[account] = queue
                if found is not None:
                    return found
        return None

    def _first_in_time(self, queue: deque[_Waiting]) -> _Waiting | None:
        while queue:
            waiting = queue.popleft()
            if waiting.turn.done():
                continue
            if self._clock_s() + self._mean_s <= waiting.ends_s:
                return waiting
            waiting.turn.set_exception(_too_late())
        return None

    def _drop_late(self, queue: deque[_Waiting]) -> None:
        late_s = self._clock_s() + self._mean_s
        for waiting in [each for each in queue if each.turn.done() or late_s > each.ends_s]:
            queue.remove(waiting)
            if not waiting.turn.done():
                waiting.turn.set_exception(_too_late())


def queue_full() -> Overloaded:
    """The refusal of a call behind too many of its own account."""
    return limited("QUEUE_FULL", "too many calls of this account wait already; nothing was done", FULL_RETRY_S)


def _too_late() -> Overloaded:
    return limited("TOO_LATE", "the call's deadline would pass before it is served; nothing was done", RETRY_S)
