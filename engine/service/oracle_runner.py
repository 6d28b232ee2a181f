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
from engine.market.room_decision import Rooms, in_turn
from engine.market.settle_decision import interruptible_leases
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import MarketPrice, PriceSnapshot
from engine.service.engine import Engine
from engine.service.market_view import Glimpse, ViewMaker, glimpse
from engine.service.oracle_feed import OracleFeed
from engine.service.past_prices import PastPrices
from engine.service.pauses import Pauses
from engine.service.pricing import Pricing, Seen, priced
from engine.service.published_code import by_name_of, name_of, snapshot_in
from engine.service.references import References
from engine.service.thread_rest import no_rest
from solvers.sharing.worth import Worth

log = logging.getLogger("walras.oracle")
Priced = tuple[PricesPublished, PriceSnapshot, dict[MarketName, MarketPrice], Worth | None]
VOLATILITY_EPOCHS = 288
SETTLED_AT_ONCE, ROOM_FOR_MAX = 25, 16
"""Interruptible leases priced at once, some 3 ms; waiting requests that room is made for after an epoch."""
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
        pricing: Pricing = priced,
        rest: Callable[[], None] = no_rest,
    ) -> None:
        """`notice_s`: how long interruptible work that was outbid goes on. `waiting`: requests for which it makes
        room; they must have committed themselves, as asking is free. `pricing`: as `priced`, wherever it is done.
        `rest`: called after each small piece of what a thread does beside calls.
        """
        self._notice_us, self._waiting = notice_s * 1_000_000, waiting
        self._engine, self._references, self.parameters = engine, references, parameters
        self.feed, self._views = OracleFeed(engine), ViewMaker(parameters, rest)
        self._refused: dict[WantedRequest, None] = {}
        self._pauses, self._pricing, self._past = Pauses(engine), pricing, PastPrices()
        self._rest = rest
        self._gone: PriceSnapshot | None = None
        """The snapshot before the last one, until a thread lets go of its objects: on the loop 5 ms."""

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
        oracle = engine.state.oracle
        past = tuple(oracle.history)[-VOLATILITY_EPOCHS:]
        found = await asyncio.to_thread(self._price, seen, previous, oracle.snapshot, past)
        if found is None:
            return False
        event, snapshot, by_name, worth = found
        self._pauses.begin()
        published, _ = engine.submit(PublishPrices(event), NO_STOPWATCH)
        if published:
            self._gone = previous
            self.feed.show(snapshot, by_name)
            seen.inventory.spare.worth = None if worth is None else worth.arrays()
            await self._settle_interruptible()
            await self._make_room()
        log.info("epoch %d: %d markets, %.1f s", event.epoch, len(event.markets), time.perf_counter() - started_s)
        return bool(published)

    async def _settle_interruptible(self) -> None:
        """Let interruptible leases pay the new prices, some at a time."""
        lease_ids = interruptible_leases(self._engine.state)
        for first in range(0, len(lease_ids), SETTLED_AT_ONCE):
            await self._pauses.pause()
            chunk = tuple(lease_ids[first : first + SETTLED_AT_ONCE])
            self._engine.submit(SettleInterruptible(chunk, self._notice_us), NO_STOPWATCH)

    async def _make_room(self) -> None:
        """Let interruptible leases go for what waits, one request at a time."""
        engine = self._engine
        await self._pauses.pause()
        rooms = Rooms(engine.state)
        if not rooms.candidates:
            return
        for request in in_turn(self._waiting(engine.state), ROOM_FOR_MAX):
            await self._pauses.pause()
            if lease_ids := rooms.leases_for(request, self._waiting(engine.state), engine.book):
                engine.submit(MakeRoom(request, lease_ids, self._notice_us), NO_STOPWATCH)

    def _price(
        self, seen: Glimpse, previous: PriceSnapshot | None, packed: bytes, past: Sequence[PricePoint]
    ) -> Priced | None:
        """`packed`: `previous` as the market keeps it."""
        self._gone = None
        now_us = seen.taken_at_us
        view, demand = self._views.view(seen, previous)
        references = self._references(seen.inventory.models.names, now_us)
        moves = self._past.moves([name_of(market) for market in view.markets], past)
        event = self._pricing(Seen(packed, view, *demand, references, moves, now_us, self.parameters))
        if event is None:
            return None
        self._rest()
        snapshot = snapshot_in(event.snapshot, self._rest)
        assert snapshot is not None
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
