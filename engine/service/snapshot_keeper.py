"""Taking snapshots of the state, now and then and at the end, so that the next start replays little."""

from __future__ import annotations

import asyncio
import logging
import time

from engine.domain.errors import WalrasError
from engine.journal import Journal, snapshots
from engine.market.state_codec import capture, state_format
from engine.service.engine import Engine

log = logging.getLogger("walras.snapshot")


DURABLE_TIMEOUT_S = 5.0


class SnapshotKeeper:
    """Of one engine, while it leads: a snapshot whenever `every_events` more are durable."""

    def __init__(self, engine: Engine, every_events: int) -> None:
        self._engine, self._every_events = engine, every_events

    async def tick(self) -> None:
        """Take one if it is time."""
        if self._new_events() >= self._every_events:
            await self.take()

    async def take(self) -> None:
        """Take one if anything has changed; a failure is logged, as the journal alone is enough."""
        if not self._new_events():
            return
        try:
            await self._take()
        except (WalrasError, TimeoutError) as error:
            log.warning("no snapshot: %s", error)

    def _new_events(self) -> int:
        journal = self._engine.journal
        if not isinstance(journal, Journal) or journal.failure is not None:
            return 0
        return journal.appended_sequence - self._engine.snapshot_sequence

    async def _take(self) -> None:
        journal = self._engine.journal
        assert isinstance(journal, Journal)
        started_s = time.perf_counter()
        sequence, captured = journal.appended_sequence, capture(self._engine.state)
        held_s = time.perf_counter() - started_s
        async with asyncio.timeout(DURABLE_TIMEOUT_S):
            await journal.wait_durable(sequence)
        size_bytes = await asyncio.to_thread(_write, journal, sequence, captured)
        self._engine.snapshot_sequence = sequence
        took_s = time.perf_counter() - started_s
        log.info("snapshot at %d: %d bytes, %.2f s, calls held %.3f s", sequence, size_bytes, took_s, held_s)


def _write(journal: Journal, sequence: int, captured: snapshots.Content) -> int:
    content = captured()
    snapshots.save(journal.database, sequence, state_format(), content)
    return len(content)
