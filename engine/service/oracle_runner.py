"""The oracle's epochs in a running engine: look, price in a thread, publish as a command.

What the market takes over is the event with all its results; nothing is priced again on replay.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.market.commands import MakeRoom, NoteDemand, PublishPrices, SettleInterruptible
from engine.market.events import PricesPublished, WantedRequest
from engine.market.published import MarketName, PricePoint
from engine.market.room_decision import in_turn
from engine.market.settle_decision import interruptible_leases
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.oracle.epoch import next_epoch
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import MarketPrice, PriceSnapshot
from engine.service.engine import Engine
from engine.service.market_view import Glimpse, ViewMaker, glimpse
from engine.service.oracle_feed import OracleFeed
from engine.service.published_code import by_name_of, event_of
from engine.service.references import References
from solvers.sharing.worth import Worth

log = logging.getLogger("walras.oracle")
Priced = tuple[PricesPublished, PriceSnapshot, dict[MarketName, MarketPrice], Worth | None]
VOLATILITY_EPOCHS = 288
SETTLED_AT_ONCE, ROOM_FOR_MAX = 200, 16
"""Interruptible leases priced between two calls; waiting requests that room is made for after an epoch."""
REFUSED_MAX = 1_000
"""Refused requests kept between two notes; what is more is dropped, as a flood says nothing new."""


class OracleRunner:
    """Runs epochs on one engine. `feed` keeps the last snapshot decoded and wakes whoever watches."""

    def __init__(
        self,
        engine: Engine,
        references: References,
        parameters: OracleParameters,
        notice_s: int = 120,
        waiting: Callable[[MarketState], Iterable[ClusterRequest]] = lambda _: (),
    ) -> None:
        """`notice_s`: how long interruptible work that was outbid goes on. `waiting`: requests for which it makes
        room; they must have committed themselves, as asking is free.
        """
        self._notice_us, self._waiting = notice_s * 1_000_000, waiting
        self._engine, self._references, self.parameters = engine, references, parameters
        self.feed, self._views = OracleFeed(engine), ViewMaker(parameters)
        self._refused: dict[WantedRequest, None] = {}

    def note_refused(self, wanted: WantedRequest) -> None:
        """Remember a refused request until the next tick makes it durable; one a period of the same is enough."""
        known = self._engine.state.demand.wished.get(wanted.tenant_id, {}).get(wanted.request)
        fresh_us = self._engine.now_us() - self.parameters.epoch_us
        if len(self._refused) < REFUSED_MAX and (known is None or known.at_us < fresh_us):
            self._refused[wanted] = None

    async def tick(self) -> bool:
        """Note refusals; run an epoch if it is time. Returns whether one was published."""
        engine = self._engine
        if not engine.leads:
            return False
        if self._refused:
            refused, self._refused = tuple(self._refused), {}
            engine.submit(NoteDemand(refused), NO_STOPWATCH)
        now_us = engine.now_us()
        due = now_us // self.parameters.epoch_us > engine.state.oracle.epoch
        return due and engine.state.inventory.node_ids.size > 0 and await self.run_epoch()

    async def run_epoch(self) -> bool:
        """Price the market of now and publish it."""
        engine, started_s = self._engine, time.perf_counter()
        now_us = engine.now_us()
        seen = glimpse(engine.state, now_us, self.parameters.window_s, left=self._views.wants_left)
        previous = self.feed.snapshot()
        past = tuple(engine.state.oracle.history)[-VOLATILITY_EPOCHS:]
        priced = await asyncio.to_thread(self._price, seen, previous, past, now_us)
        if priced is None:
            return False
        event, snapshot, by_name, worth = priced
        published, _ = engine.submit(PublishPrices(event), NO_STOPWATCH)
        if published:
            self.feed.show(snapshot, by_name)
            seen.inventory.spare.worth = None if worth is None else worth.arrays()
            await self._settle_interruptible()
        log.info("epoch %d: %d markets, %.1f s", event.epoch, len(event.markets), time.perf_counter() - started_s)
        return bool(published)

    async def _settle_interruptible(self) -> None:
        """Let interruptible leases pay the new prices, some at a time so that calls come between."""
        lease_ids = interruptible_leases(self._engine.state)
        for first in range(0, len(lease_ids), SETTLED_AT_ONCE):
            chunk = tuple(lease_ids[first : first + SETTLED_AT_ONCE])
            self._engine.submit(SettleInterruptible(chunk, self._notice_us), NO_STOPWATCH)
            await asyncio.sleep(0)
        if not lease_ids:
            return  # nobody could make room
        waiting = in_turn(self._waiting(self._engine.state))[:ROOM_FOR_MAX]
        for place, request in enumerate(waiting):
            self._engine.submit(MakeRoom(request, tuple(waiting[:place]), self._notice_us), NO_STOPWATCH)
            await asyncio.sleep(0)

    def _price(
        self, seen: Glimpse, previous: PriceSnapshot | None, past: Sequence[PricePoint], now_us: int
    ) -> Priced | None:
        view, demand = self._views.view(seen, previous)
        references = self._references(seen.inventory.models.names, now_us)
        snapshot = next_epoch(previous, view, *demand, references, now_us, self.parameters)
        if snapshot is previous:
            return None
        event = event_of(snapshot, past, self.parameters)
        return event, snapshot, by_name_of(snapshot), self._views.worth(seen)

    async def run(self, tick_s: float) -> None:
        """Tick until cancelled; what is refused or fails is tried again at the next tick."""
        while True:
            try:
                await self.tick()
            except WalrasError as error:
                log.warning("the epoch was not published: %s", error)
            except Exception:
                log.exception("an epoch failed; prices stay as they are")
            await asyncio.sleep(tick_s)
