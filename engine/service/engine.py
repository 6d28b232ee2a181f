"""The engine: one market, one journal, one clock. It decides, records, applies, and answers once it is durable.

All of it runs on one event loop, so a decision, its application and the reading of its answer are one step that
no other call can see halfway. The event is appended before it is applied: if the journal refuses, nothing has
changed. Whatever an answer shows, refusals included, it leaves only after that is durable: no reply tells what a
crash could undo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.domain.errors import Unavailable, WalrasError
from engine.journal import CorruptJournal, Entry, Journal, Receipt
from engine.market.apply import apply
from engine.market.commands import Command, EndDueLeases
from engine.market.decide import decide
from engine.market.events import AnyEvent, decode, encode
from engine.market.prices import PriceBook
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch

Answer = TypeVar("Answer")


def wall_clock_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000


class Engine:
    """The market behind the service. Use from one event loop only."""

    def __init__(self, data_dir: Path, book: PriceBook, clock_us: Callable[[], int] = wall_clock_us) -> None:
        """Open the journal and replay it. Errors as in `Journal.open` and `Journal.replay`."""
        self.book, self._clock_us = book, clock_us
        self.listeners: list[Callable[[], object]] = []
        """Called after events were applied."""
        self.journal = Journal.open(data_dir)
        try:
            self.state, self._last_us = replayed(self.journal.replay())
        except BaseException:
            self.journal.close()
            raise

    def now_us(self) -> int:
        """The injected clock, never going back."""
        self._last_us = max(self._last_us, self._clock_us())
        return self._last_us

    def submit(self, command: Command, stopwatch: Stopwatch) -> tuple[list[AnyEvent], Receipt]:
        """Decide a command, append its events and apply them. Nothing is durable before the receipt says so."""
        now_us = self.now_us()
        self.end_due(now_us)
        return self._run(command, now_us, stopwatch)

    async def execute(
        self, command: Command, stopwatch: Stopwatch, answer: Callable[[MarketState, list[AnyEvent]], Answer]
    ) -> Answer:
        """Decide a command, record and apply its events; `answer` is read off the state at once, given out once
        durable. A refusal, too, waits until what it was decided on is durable."""
        try:
            events, receipt = self.submit(command, stopwatch)
            reply = answer(self.state, events)
        except WalrasError:
            await self._settled()
            raise
        stopwatch.lap("reply")
        await receipt
        stopwatch.lap("commit")
        return reply

    async def read(self, answer: Callable[[MarketState], Answer]) -> Answer:
        """What `answer` reads off the state, given out once all that it shows is durable."""
        self.end_due(self.now_us())
        try:
            return answer(self.state)
        finally:
            await self._settled()

    def end_due(self, now_us: int) -> None:
        """End all leases whose agreed end has come, as one batch."""
        due = self.state.next_due()
        if due is not None and due[0] <= now_us:
            self._run(EndDueLeases(), now_us, NO_STOPWATCH)

    def _run(self, command: Command, now_us: int, stopwatch: Stopwatch) -> tuple[list[AnyEvent], Receipt]:
        if self.journal.failure is not None:
            raise Unavailable("the journal cannot be written; the engine must be restarted")
        events = decide(self.state, command, now_us, self.book, stopwatch)
        receipt = self.journal.append([encode(event) for event in events], now_us)
        for event in events:
            apply(self.state, event)
        stopwatch.lap("apply")
        for listener in self.listeners if events else ():
            listener()
        return events, receipt

    async def _settled(self) -> None:
        """Wait until everything appended so far is durable."""
        await self.journal.append([], self._last_us)

    def close(self) -> None:
        """Make everything durable and let go of the journal."""
        self.journal.close()


def replayed(entries: Iterable[Entry]) -> tuple[MarketState, int]:
    """(the state that a journal's entries give, time of the last one)."""
    state, last_us = MarketState(), 0
    for entry in entries:
        try:
            event = decode(entry.payload)
        except msgspec.MsgspecError as error:
            raise CorruptJournal(entry.sequence, f"is not an event: {error}") from None
        apply(state, event)
        last_us = max(last_us, entry.recorded_at_us)
    return state, last_us
