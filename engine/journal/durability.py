"""Who waits for which sequence, and how they are told.

The writer thread commits many batches at once, so it tells many waiters at once: ONE
`call_soon_threadsafe` per commit and event loop, after which the loop itself fulfils every future that the
commit has reached. A `concurrent.futures.Future` per batch, wrapped for asyncio, would cost a condition
variable to make and a wake-up of the loop (a system call) each; here a batch that nobody awaits costs
nothing, and one that is already durable is awaited without suspending.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import NamedTuple

from engine.domain.errors import Unavailable
from engine.journal.chain import Head


class _Waiter(NamedTuple):
    """`future` brings what to raise; None if the sequence is durable, or the journal has ended."""

    sequence: int
    future: asyncio.Future[Unavailable | None]


class Durability:
    """How far the journal is safe on disk. Any thread may ask and wait; one thread advances it."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.failure: str | None = None
        self._changed = threading.Condition()
        self._waiters: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}

    def advance(self, head: Head) -> None:
        """Everything up to `head` is durable now."""
        with self._changed:
            self.head = head
        self._tell()

    def end(self, failure: str) -> None:
        """Nothing will become durable any more."""
        with self._changed:
            self.failure = failure
        self._tell()

    def refuse_waiters(self, why: Unavailable) -> None:
        """All event loops' tasks that wait now get `why`; what they wait for may become durable yet."""
        with self._changed:
            waiting, self._waiters = self._waiters, {}
        for loop, waiters in waiting.items():
            with suppress(RuntimeError):  # that loop was closed with waiters in it
                loop.call_soon_threadsafe(_fulfil, waiters, why)

    async def reached(self, sequence: int) -> int:
        """Return `sequence` once it is durable; raise `Unavailable` if it will not be known to be."""
        if not self._settled(sequence):
            await self._told(sequence)
            self._settled(sequence)
        return sequence

    def reached_blocking(self, sequence: int, timeout_s: float | None) -> int:
        """`reached` for threads without an event loop; raises `TimeoutError` after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._settled(sequence), timeout_s):
                raise TimeoutError(f"sequence {sequence} is not durable after {timeout_s} s")
        return sequence

    def _settled(self, sequence: int) -> bool:
        if self.head.sequence >= sequence:
            return True
        if self.failure is not None:
            raise Unavailable(self.failure)
        return False

    async def _told(self, sequence: int) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(sequence, loop.create_future())
        with self._changed:
            if self._settled(sequence):
                return
            self._waiters.setdefault(loop, []).append(waiter)
        refusal = await waiter.future
        if refusal is not None:
            raise refusal

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            loops = list(self._waiters)
        for loop in loops:
            try:
                loop.call_soon_threadsafe(self._release, loop)
            except RuntimeError:  # that loop was closed with waiters in it: nobody is left to tell
                self._waiters.pop(loop, None)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in `loop`. A commit usually frees nearly all who wait, so one pass over them is cheap."""
        with self._changed:
            waiters = self._waiters.pop(loop, [])
            later = [waiter for waiter in waiters if waiter.sequence > self.head.sequence]
            if later and self.failure is None:
                self._waiters[loop] = later
                waiters = [waiter for waiter in waiters if waiter.sequence <= self.head.sequence]
        _fulfil(waiters, None)


def _fulfil(waiters: list[_Waiter], refusal: Unavailable | None) -> None:
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_result(refusal)
