"""The last price snapshot, decoded once, and a bell for those who wait for the next."""

from __future__ import annotations

import asyncio

from engine.market.published import MarketName
from engine.oracle.snapshot import MarketPrice, PriceSnapshot
from engine.service.engine import Engine
from engine.service.published_code import by_name_of, snapshot_in


class OracleFeed:
    """Reads the engine's state on its event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._snapshot: PriceSnapshot | None = None
        self._by_name: dict[MarketName, MarketPrice] = {}
        self._bell = asyncio.Event()
        self.closed = False

    def snapshot(self) -> PriceSnapshot | None:
        """The last one; None before the first epoch."""
        self._refresh()
        return self._snapshot

    def by_name(self) -> dict[MarketName, MarketPrice]:
        """Its markets."""
        self._refresh()
        return self._by_name

    def show(self, snapshot: PriceSnapshot, by_name: dict[MarketName, MarketPrice]) -> None:
        """Take over a snapshot that was just published, and wake those who wait for it."""
        self._snapshot, self._by_name = snapshot, by_name
        self.wake()

    def wake(self) -> None:
        """Let those who wait look again."""
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    async def next(self, epoch: int) -> None:
        """Wait until a snapshot after `epoch` is published, or the feed is closed."""
        while self._engine.state.oracle.epoch <= epoch and not self.closed:
            await self._bell.wait()

    def close(self) -> None:
        """Let go of everyone who waits."""
        self.closed = True
        self.wake()

    def _refresh(self) -> None:
        oracle = self._engine.state.oracle
        known = self._snapshot.price_snapshot_id if self._snapshot is not None else ""
        if known != oracle.price_snapshot_id:
            self._snapshot = snapshot_in(oracle.snapshot)
            assert self._snapshot is not None
            self._by_name = by_name_of(self._snapshot)
