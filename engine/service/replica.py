"""One of several engines on a shared journal: it follows, leads when nobody does, and follows again when deposed.

Only the journal's epoch decides who writes; what stands here decides who tries. A leader that was deposed may have
applied what never became durable, so it throws its state away and replays.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from engine.domain.errors import NotLeader, Unavailable, WalrasError
from engine.journal import Entry, Following, Journal, Place
from engine.service.engine import Engine, restored_from

log = logging.getLogger("walras.replica")
POLL_S, RETRY_S, SETTLE_S = 0.1, 1.0, 0.01
Made = TypeVar("Made")


def beside(work: Callable[[], Made]) -> asyncio.Future[Made]:
    """Do it in a thread that does not keep the process from ending, should the database hang."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Made] = loop.create_future()

    def tell(result: Made | None, error: BaseException | None) -> None:
        if made.cancelled():
            return
        if error is not None:
            made.set_exception(error)
        else:
            made.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, failed)

    threading.Thread(target=run, daemon=True).start()
    return made


async def _nothing() -> None:
    pass


class Replica:
    """Keeps one engine in its role. `changed` is called after it took something in or its role changed."""

    def __init__(self, engine: Engine, place: Place, lease_s: float) -> None:
        self._engine, self._place, self._lease_s = engine, place, lease_s
        self.address = ""
        self.changed: Callable[[], Awaitable[None]] = _nothing
        self._ended: Journal | None = None
        self._taking: asyncio.Future[Journal] | None = None

    async def run(self) -> None:
        """Step until cancelled; what fails is tried again."""
        while True:
            await asyncio.sleep(POLL_S if await self.step() else RETRY_S)

    async def settle(self) -> None:
        """Step until it is clear who leads, this engine or another."""
        while await self.step() and not self._engine.leads and not self._knows_a_leader():
            await asyncio.sleep(SETTLE_S)

    def _knows_a_leader(self) -> bool:
        journal = self._engine.journal
        return isinstance(journal, Following) and journal.leader.is_alive

    async def step(self) -> bool:
        """Do what the role of now asks for; whether that went well."""
        try:
            if isinstance(self._engine.journal, Journal):
                await self._lead(self._engine.journal)
            else:
                await self._follow(self._engine.journal)
        except WalrasError as error:
            log.warning("%s", error.message)
            return False
        return True

    async def _lead(self, journal: Journal) -> None:
        if journal.failure is None and not journal.is_deposed:
            return
        if self._ended is not journal:
            self._ended = journal
            log.error("leads no more: %s", journal.failure or "another engine took over")
            threading.Thread(target=journal.close, daemon=True).start()  # its last commit may still hang
        await self._start_over()

    async def _follow(self, following: Following) -> None:
        if following.failure:
            await self._start_over()
        elif await self._read(following):
            await self.changed()
        elif self._taking is not None:
            if self._taking.done():
                taking, self._taking = self._taking, None
                await self._begin_to_lead(following, taking)
        elif not following.leader.is_alive:
            # Its COMMIT may wait for a standby: reads go on meanwhile.
            self._taking = beside(
                lambda: Journal.open_at(self._place, address=self.address, lease_s=self._lease_s)
            )

    async def _read(self, following: Following) -> list[Entry]:
        """Take in what is new. What cannot be taken in is the end of this state: half of it may be applied."""
        try:
            entries = await beside(following.poll)
            self._engine.take_in(entries)
        except Unavailable:
            raise
        except Exception as error:
            following.fail(f"this engine cannot follow: {error}")
            log.exception("cannot follow; starting over")
            raise Unavailable(following.failure) from error
        return entries

    async def _begin_to_lead(self, following: Following, taking: asyncio.Future[Journal]) -> None:
        try:
            journal = await taking
        except NotLeader:
            return
        try:
            await self._read(following)
            if following.head != journal.head:
                raise Unavailable("another engine has written meanwhile")
        except BaseException:
            await beside(journal.close)
            raise
        self._engine.lead(journal)
        following.close()
        log.info("leads since epoch %d, after sequence %d", journal.epoch, journal.head.sequence)
        await self.changed()

    async def _start_over(self) -> None:
        """Follow from what is durable. A deposed leader's journal refuses all calls until that is done."""
        before = self._engine.journal
        following = Following(before.database)
        self._engine.follow(following, await beside(lambda: restored_from(following)))
        if isinstance(before, Following):
            before.close()
        await self.changed()
