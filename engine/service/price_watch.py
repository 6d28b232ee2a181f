"""Watching prices: the newest snapshot whenever there is a newer one, until it is time to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from walras.v1 import oracle_service_pb2 as pb

from engine.domain.errors import InvalidInput, Overloaded, Violation
from engine.market.state import MarketState
from engine.service.engine import Engine
from engine.service.oracle_codec import tier_violations
from engine.service.oracle_feed import OracleFeed

WATCH_SHARE = 0.9
"""Of the longest call, after which a watch ends by itself."""
WATCHES_MAX, RETRY_AFTER_S = 1_000, 5.0
Parts = Callable[[MarketState, pb.WatchPricesRequest], list[pb.WatchPricesResponse]]


class Watches:
    """All watches of an engine, bounded in number and time. A slow reader misses snapshots, never the last."""

    def __init__(self, engine: Engine, feed: OracleFeed, longest_s: float) -> None:
        self._engine, self._feed, self._longest_s = engine, feed, longest_s
        self._open = 0

    async def run(
        self, request: pb.WatchPricesRequest, remaining_s: float | None, parts_of: Parts
    ) -> AsyncGenerator[pb.WatchPricesResponse, None]:
        """The messages of one watch; Overloaded if there are too many. `remaining_s`: of the caller's deadline."""
        if self._open >= WATCHES_MAX:
            raise Overloaded(f"{WATCHES_MAX:,} callers watch prices already", RETRY_AFTER_S)
        asked_s = self._longest_s if remaining_s is None else WATCH_SHARE * remaining_s
        ends_s = time.monotonic() + min(self._longest_s, asked_s)
        seen = request.after_epoch if request.HasField("after_epoch") else -1
        self._open += 1
        try:
            while not self._feed.closed:
                if self._engine.state.oracle.epoch > seen:
                    parts = await self._engine.read(lambda state: parts_of(state, request))
                    seen = parts[0].epoch
                    for part in parts:
                        yield part
                try:
                    await asyncio.wait_for(self._feed.next(seen), max(0.0, ends_s - time.monotonic()))
                except TimeoutError:
                    return
        finally:
            self._open -= 1


def check_watch(request: pb.WatchPricesRequest) -> None:
    """InvalidInput lists what is wrong."""
    violations = tier_violations(request.security_tier) if request.security_tier else []
    if request.after_epoch < 0:
        violations.append(Violation("after_epoch", f"must not be negative, got {request.after_epoch}"))
    if violations:
        raise InvalidInput(violations)
