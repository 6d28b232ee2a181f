"""One of several engines on a shared journal: it follows, leads when nobody does, and follows again when deposed.

Only the journal's epoch decides who writes; what stands here decides who tries. A leader that was deposed may have
applied what never became durable, so it throws its state away and replays.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable

from engine.domain.errors import NotLeader, Unavailable, WalrasError
from engine.journal import Entry, Following, Journal
from engine.service.engine import Engine, restored_from

log = logging.getLogger("walras.replica")
POLL_S, RETRY_S = 0.1, 1.0


async def _nothing() -> None:
    pass


class Replica:
    """Keeps one engine in its role. `changed` is called after it took something in or its role changed."""

    def __init__(self, engine: Engine, url: str, lease_s: float) -> None:
        self._engine, self._url, self._lease_s = engine, url, lease_s
        self.address = ""
        self.changed: Callable[[], Awaitable[None]] = _nothing
        self._ended: Journal | None = None

    async def run(self) -> None:
        """Step until cancelled; what fails is tried again."""
        while True:
            await asyncio.sleep(POLL_S if await self.step() else RETRY_S)

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
        elif not following.leader.is_alive:
            await self._take_over(following)

    async def _read(self, following: Following) -> list[Entry]:
        """Take in what is new. What cannot be taken in is the end of this state: half of it may be applied."""
        try:
            entries = await asyncio.to_thread(following.poll)
            self._engine.take_in(entries)
        except Unavailable:
            raise
        except Exception as error:
            following.fail(f"this engine cannot follow: {error}")
            log.exception("cannot follow; starting over")
            raise Unavailable(following.failure) from error
        return entries

    async def _take_over(self, following: Following) -> None:
        try:
            journal = await asyncio.to_thread(
                lambda: Journal.open_at(self._url, address=self.address, lease_s=self._lease_s)
            )
        except NotLeader:
            return
        try:
            await self._read(following)
            if following.head != journal.head:
                raise Unavailable("another engine has written meanwhile")
        except BaseException:
            await asyncio.to_thread(journal.close)
            raise
        self._engine.lead(journal)
        following.close()
        log.info("leads since epoch %d, after sequence %d", journal.epoch, journal.head.sequence)
        await self.changed()

    async def _start_over(self) -> None:
        """Follow from what is durable. A deposed leader's journal refuses all calls until that is done."""
        before = self._engine.journal
        following = Following(before.database)
        self._engine.follow(following, await asyncio.to_thread(restored_from, following))
        if isinstance(before, Following):
            before.close()
        await self.changed()
