"""The engine: one market, one journal, one clock. It decides, records, applies, and answers once it is durable.

Or it follows: another process decides, this one takes in what that one recorded, and answers reads.

All of it runs on one event loop, so a decision, its application and the reading of its answer are one step that
no other call can see halfway. The event is appended before it is applied: if the journal refuses, nothing has
changed. Whatever an answer shows, refusals included, it leaves only after that is durable: no reply tells what a
crash could undo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TypeVar

from engine.domain.errors import NotLeader, Unavailable, WalrasError
from engine.journal import Entry, Following, Journal, Place, Receipt
from engine.market.apply import apply
from engine.market.commands import Command, EndDueLeases, SettleLeases
from engine.market.decide import decide
from engine.market.events import AnyEvent, encode
from engine.market.prices import PriceBook
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
from engine.service.restoring import Restored, newest_snapshot

Answer = TypeVar("Answer")


def wall_clock_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000


class Engine:
    """The market behind the service. Use from one event loop only."""

    journal: Journal | Following

    def __init__(
        self, source: Place | Following, book: PriceBook, clock_us: Callable[[], int] = wall_clock_us
    ) -> None:
        """Open the journal at a place and lead it, or follow one; replay it. Errors as in `open_url`."""
        self.book, self._clock_us = book, clock_us
        self.listeners: list[Callable[[], object]] = []
        """Called after events were applied."""
        self.calls = 0
        """How many came so far; whoever works beside them sees whether there are any."""
        self.leads = not isinstance(source, Following)
        self.journal = source if isinstance(source, Following) else Journal.open_at(source)
        try:
            restored = restored_from(self.journal)
        except BaseException:
            self.journal.close()
            raise
        self.state, self._last_us = restored.state, restored.last_us
        self.snapshot_sequence = restored.sequence

    def now_us(self) -> int:
        """The injected clock, never going back."""
        self._last_us = max(self._last_us, self._clock_us())
        return self._last_us

    def submit(self, command: Command, stopwatch: Stopwatch) -> tuple[list[AnyEvent], Receipt]:
        """Decide a command, append its events and apply them. Nothing is durable before the receipt says so."""
        now_us = self.now_us()
        self.end_due(now_us)
        return self._run(command, now_us, stopwatch)

    def gathering(self) -> AbstractContextManager[None]:
        """Inside, what is submitted is recorded together. Do not wait inside."""
        return self.journal.gathering() if isinstance(self.journal, Journal) else nullcontext()

    async def execute(
        self, command: Command, stopwatch: Stopwatch, answer: Callable[[MarketState, list[AnyEvent]], Answer]
    ) -> Answer:
        """Decide a command, record and apply its events; `answer` is read off the state at once, given out once
        durable. A refusal, too, waits until what it was decided on is durable."""
        self.calls += 1
        try:
            events, receipt = self.submit(command, stopwatch)
            reply = answer(self.state, events)
        except WalrasError:
            await self.settled()
            raise
        stopwatch.lap("reply")
        await receipt
        stopwatch.lap("commit")
        return reply

    async def read(self, answer: Callable[[MarketState], Answer]) -> Answer:
        """What `answer` reads off the state, given out once all that it shows is durable."""
        self.calls += 1
        self.end_due(self.now_us())
        try:
            return answer(self.state)
        finally:
            await self.settled()

    def end_due(self, now_us: int) -> None:
        """End what has come to its agreed end, as one batch, and settle leases that were not for a period.

        While following both are the leader's to do.
        """
        due = self.state.next_due()
        if self.leads and due is not None and due[0] <= now_us:
            self._run(EndDueLeases(), now_us, NO_STOPWATCH)
        if self.leads and self.state.books.is_settlement_due(now_us):
            self._run(SettleLeases(), now_us, NO_STOPWATCH)

    def _run(self, command: Command, now_us: int, stopwatch: Stopwatch) -> tuple[list[AnyEvent], Receipt]:
        if (refusal := self.redirect()) is not None:
            raise refusal
        if self.journal.failure is not None:
            raise Unavailable("the journal cannot be written; the engine must be restarted")
        events = decide(self.state, command, now_us, self.book, stopwatch)
        receipt = self.journal.append([encode(event) for event in events], now_us)
        for event in events:
            apply(self.state, event)
        stopwatch.lap("apply")
        if events:
            self._tell()
        return events, receipt

    async def settled(self) -> None:
        """Wait until everything appended so far is durable."""
        await self.journal.append([], self._last_us)

    def redirect(self) -> NotLeader | None:
        """Why this engine changes nothing, and who does; None if it leads."""
        return self.journal.redirect() if isinstance(self.journal, Following) else None

    def take_in(self, entries: Iterable[Entry]) -> None:
        """Apply what the leader recorded."""
        self._last_us = Restored(self.state, self._last_us).take_in(entries).last_us
        self._tell()

    def lead(self, journal: Journal) -> None:
        """Decide and record from now on; everything in the journal has been taken in."""
        self.journal, self.leads = journal, True
        self._tell()

    def follow(self, journal: Following, restored: Restored) -> None:
        """Take in from now on what another records, beginning with this state."""
        self.journal, self.leads = journal, False
        self.state, self._last_us = restored.state, max(self._last_us, restored.last_us)
        self.snapshot_sequence = restored.sequence
        self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()

    def close(self) -> None:
        """Make everything durable and let go of the journal."""
        self.journal.close()


def restored_from(journal: Journal | Following) -> Restored:
    """The state of a journal's end, from its newest snapshot on."""
    restored = newest_snapshot(journal.database)
    with closing(journal.entries_after(restored.sequence)) as entries:
        return restored.take_in(entries)


def replayed(entries: Iterable[Entry]) -> tuple[MarketState, int]:
    """(the state that all of a journal's entries give, time of the last one)."""
    restored = Restored(MarketState()).take_in(entries)
    return restored.state, restored.last_us
