"""A server process: a real engine with all that it does by itself, behind the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engine.domain.errors import NotLeader, Overloaded, Unavailable, WalrasError
from engine.journal import Entry, Following, Journal, Place
from engine.market.commands import Command, SetLedgerRules
from engine.market.events import decode
from engine.market.heartbeats import HeartbeatRules
from engine.market.ledger.rules import LedgerRules
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
from engine.service.engine import Engine
from engine.service.gathered_deploys import GatheredDeploys
from engine.service.replica import Replica
from engine.service.restoring import Restored
from engine.service.snapshot_keeper import SnapshotKeeper
from engine.service.upkeep import Upkeep
from tests.service.loopback import Book
from tests.simulation import batches, gathered
from tests.simulation.answers import answer, read
from tests.simulation.calls import Call, Reply
from tests.simulation.kernel import START_US, Process
from tests.simulation.store import EmbeddedDatabase, SharedDatabase
from tests.simulation.system import Thread

if TYPE_CHECKING:
    from tests.simulation.life import Life

HEARTBEATS = HeartbeatRules(period_s=1.0, missed_max=3, good_min=3)
RULES = LedgerRules(require_deposit=True, burn_ppm=10_000, make_whole_ppm=5_000, settlement_period_s=60)
LEASE_S, SNAPSHOT_EVENTS, TICK_S = 2.0, 30, 1.0


class WatchedEngine(Engine):
    """The real engine, with a twin that follows what it records and takes in, and is compared after each step."""

    def __init__(self, place: Place | Following, server: Server) -> None:
        self.twin, self._life, self._name, self.is_held_up = None, server.life, server.name, False
        self._process = server.process
        super().__init__(place, Book(), server.clock_us)
        self._watch()

    def _watch(self) -> None:
        self.twin = self._life.witness.restored(self.state, self._name)

    @property
    def journal(self) -> Any:
        return self._journal

    @journal.setter
    def journal(self, journal: Journal | Following) -> None:
        self._journal = journal
        if isinstance(journal, Journal):
            append = journal.append

            def tapped(events: list[bytes], at_us: int) -> Any:
                receipt = append(events, at_us)
                for payload in events:
                    self._life.kernel.violations.extend(self.twin.follow(decode(payload)))
                if events:
                    self._process.batch_ends.add(self.twin.version)
                return receipt

            journal.append = tapped  # type: ignore[method-assign]

    def take_in(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        for entry in entries:
            self.twin.follow(decode(entry.payload))
        super().take_in(entries)

    def follow(self, journal: Following, restored: Restored) -> None:
        self.twin = None
        super().follow(journal, restored)
        self._watch()

    def submit(self, command: Command, stopwatch: Stopwatch) -> Any:
        try:
            return super().submit(command, stopwatch)
        except (NotLeader, Overloaded, Unavailable):
            self.is_held_up = True
            raise
        finally:
            self.check_time()

    def check_time(self) -> None:
        """Nothing whose end has come may be left, once the engine has looked at the clock."""
        held_up, self.is_held_up = self.is_held_up, False
        if self.leads and not held_up and (late := self.twin.overdue(self._last_us)) is not None:
            self._life.kernel.fault("5", f"{self._name}: {late} should be over")

    def _tell(self) -> None:
        if self.twin is not None and self.twin.version == self.state.version:
            self._life.witness.changed(self.twin, self.state, self._name)
        super()._tell()


class Server:
    """One start of an engine, until it is killed."""

    def __init__(self, life: Life, name: str, skew_us: int) -> None:
        self.life, self.name, self.skew_us = life, name, skew_us
        self.process = Process(life.kernel, name)
        self.process.loop.start_thread = self._beside
        self.engine: WatchedEngine | None = None
        self._within(lambda: Thread(target=self._boot).start())

    def _within(self, work: Callable[[], object]) -> None:
        before, self.life.kernel.current = self.life.kernel.current, self.process
        work()
        self.life.kernel.current = before

    def _beside(self, work: Callable[[], None]) -> None:
        Thread(target=work).start()

    def clock_us(self) -> int:
        return START_US + self.life.kernel.now_us + self.skew_us

    def _boot(self) -> None:
        place = SharedDatabase() if self.life.is_shared else EmbeddedDatabase()
        try:
            source = Following.open_url(place) if self.life.is_shared else place
            engine = WatchedEngine(source, self)
        except (Unavailable, NotLeader):
            self.life.restart(self)
            return
        except WalrasError as error:
            self.life.kernel.fault("4", f"{self.name} cannot start: {error!r}")
            return
        self.process.loop.call_soon(self._start, engine, place)

    def _start(self, engine: WatchedEngine, place: Place) -> None:
        self.engine = engine
        self.upkeep = Upkeep(engine, HEARTBEATS)
        self.gathered = GatheredDeploys(engine, lambda: 0, crowd=0, quiet_s=gathered.QUIET_S)
        self.snapshots = SnapshotKeeper(engine, SNAPSHOT_EVENTS)
        loop = self.process.loop
        works: list[Callable[[], Awaitable[object]]] = [lambda: self._watch(engine), self.upkeep.run]
        if self.life.is_shared:
            replica = Replica(engine, place, LEASE_S)
            replica.address, replica.changed = self.name, self._role_changed
            works.append(replica.run)
        self._set_rules()
        self.tasks = [loop.create_task(self._guarded(work)) for work in works]

    async def _role_changed(self) -> None:
        self._set_rules()

    def _set_rules(self) -> None:
        assert self.engine is not None
        if self.engine.leads:
            with suppress(WalrasError):
                self.engine.submit(SetLedgerRules(RULES), NO_STOPWATCH)

    async def _guarded(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception as error:
            self.life.kernel.fault("9", f"{self.name} failed: {error!r}")

    async def _watch(self, engine: WatchedEngine) -> None:
        """As `engine.service.server` does once a second; a broken embedded journal ends the process."""
        while self.life.is_shared or engine.journal.failure is None:
            await asyncio.sleep(TICK_S)
            engine.journal.refuse_stalled()
            with suppress(WalrasError):
                engine.end_due(engine.now_us())
                self.upkeep.tick()
                engine.check_time()
            await self.snapshots.tick()
        self.life.restart(self)

    def arrives(self, call: Call, answer_to: Callable[[Reply], None]) -> None:
        """A call comes in from the network; nobody is there before the start."""
        if self.engine is not None:
            self.process.loop.create_task(self._serve(self.engine, call, answer_to))

    async def _serve(self, engine: WatchedEngine, call: Call, answer_to: Callable[[Reply], None]) -> None:
        version = engine.state.version
        try:
            reply = await self._answered(engine, call)
        except WalrasError as error:
            reply = Reply(version, engine.now_us(), error=error.reason)
        except Exception as error:
            self.life.kernel.fault("9", f"{call} failed: {error!r}")
            return
        for each, own in ((call, reply), *zip(call.items, reply.items, strict=not reply.error)):
            self.life.witness.leaves(each, own, call.acked_version, leads=engine.leads)
        answer_to(reply)

    async def _answered(self, engine: WatchedEngine, call: Call) -> Reply:
        if call.what == "Heartbeats":
            if (refusal := engine.redirect()) is not None:
                raise refusal
            self.upkeep.heartbeats.beat(call.nodes)
            return Reply(0, engine.now_us())
        if call.items:
            return await batches.answered(engine, call)
        if gathered.gathers(call):
            return await gathered.answered(self.gathered, engine, call)
        if call.command is None:
            return await engine.read(lambda state: read(state, call, engine.now_us()))
        return await engine.execute(
            call.command, NO_STOPWATCH, lambda state, events: answer(state, events, call, engine.now_us())
        )
