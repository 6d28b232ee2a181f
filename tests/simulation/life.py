"""One run: a seed, a disk, a server or two, callers, trouble; then calm, and the last questions."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from engine.cli.plan_commands import collector_at_rest
from engine.domain.errors import InsufficientFunds, Refused
from engine.market.apply import apply
from engine.market.commands import ServeOrder
from engine.market.events import decode
from engine.market.state import MarketState
from engine.market.state_codec import restore
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from tests.simulation.base import TENANTS, base
from tests.simulation.callers import Caller
from tests.simulation.calls import UNKNOWN, Call, Reply
from tests.simulation.differences import all_differences
from tests.simulation.kernel import SECOND_US, Kernel, Process, ProcessLoop
from tests.simulation.network import CALM, Network
from tests.simulation.one_core import on_one_core
from tests.simulation.remembered import remembered
from tests.simulation.server import Server
from tests.simulation.store import Disk
from tests.simulation.system import installed
from tests.simulation.trouble import Trouble
from tests.simulation.witness import Witness

LATEST_US = 1_200 * SECOND_US
REPLAYED = 0.3
"""Share of the runs whose journal is replayed from the beginning, as that takes as long as a fifth of a run."""
DEPOSED_IN_SILENCE, READ_ANYWHERE, LOST_IN_THE_END = 0.3, 0.3, 0.3
"""Share of the shared runs whose first leader is deposed before all else, of the reads that any server is asked,
and of the runs that end with nodes that stay silent."""
OPERATIONS, SESSIONS = 200, 2
"""Of a run; of a tenant, at the same time."""


@dataclass
class Report:
    """What a run did and found. `digest`: of its journal, the same for the same seed."""

    seed: int
    digest: str = ""
    operations: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    events: int = 0
    lived_s: float = 0.0


class Life:
    """The world of one seed. `seen`: (owner, object) of all that callers were told of."""

    def __init__(self, seed: int, operations: int) -> None:
        start = base()
        self.kernel = kernel = Kernel(seed)
        self.loop = ProcessLoop(kernel, None)
        self.disk = kernel.disk = Disk(kernel, start.image, self.crash)  # type: ignore[attr-defined]
        self.witness = Witness(kernel, self.disk, start.twin.clone(), start.ledger)
        self.is_shared = kernel.draw.random() < 0.3
        self.numbers = count(1)
        self.operations: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.seen: list[tuple[str, str]] = []
        self.servers: dict[str, Server] = {}
        self.network = Network(kernel, self.loop, lambda name: self.servers[name])
        names = ("one", "two") if self.is_shared else ("one",)
        self.skews_us = {name: kernel.ticks_us(0, 3) for name in names}
        self.asked_first = "one"
        sessions = [tenant for tenant in TENANTS for _ in range(SESSIONS)]
        self.callers = [
            Caller(self, tenant, -(-operations // len(sessions)), session)
            for session, tenant in enumerate(sessions)
        ]
        self.trouble = Trouble(self)
        self.is_over = False
        self.names = names

    def begin_all(self) -> None:
        """Start all servers."""
        for name in self.names:
            self.begin(name)

    def begin(self, name: str) -> None:
        """Start a server."""
        self.servers[name] = Server(self, name, self.skews_us[name])

    def restart(self, server: Server, after_us: int = 500_000) -> None:
        """Kill a server, and start another on the same disk in a while."""
        if self.servers.get(server.name) is server and server.process.is_alive:
            server.process.is_alive = False
            self.kernel.at(0, None, server.process.kill)
            self.kernel.at(after_us, None, self.begin, server.name)

    def crash(self, process: Process) -> None:
        """End the server that a process belongs to."""
        for server in list(self.servers.values()):
            if server.process is process:
                self.restart(server, self.kernel.ticks_us(5, 150))

    async def sleep_us(self, delay_us: int) -> None:
        """Let time pass."""
        await asyncio.sleep(delay_us / SECOND_US)

    async def ask(self, call: Call, arrives_in_us: int | None) -> Reply:
        """Ask the server that answered last; after one that does not lead, the other. Some reads go anywhere."""
        asked = self.asked_first
        if self.is_shared and call.command is None and self.kernel.draw.random() < READ_ANYWHERE:
            asked = self.kernel.draw.choice(self.names)
        reply = await self.network.ask(call, asked, arrives_in_us)
        if reply.error in UNKNOWN and self.asked_first == asked:
            self.asked_first = self.names[(self.names.index(asked) + 1) % len(self.names)]
        return reply

    async def live(self) -> None:
        """All of it, in order."""
        if self.is_shared and self.kernel.draw.random() < DEPOSED_IN_SILENCE:
            await self.trouble.depose_in_silence()
        beats = self.loop.create_task(self.trouble.beat())
        trouble = self.loop.create_task(self.trouble.run())
        await asyncio.gather(*(caller.run() for caller in self.callers))
        await self.trouble.end()
        await trouble
        await self._calm()
        for caller in (*self.callers, self.trouble.operator, self.trouble.planner):
            unresolved, caller.unresolved = caller.unresolved, []
            for call in unresolved:
                await caller.settle(call)
            if caller.unresolved and not self.kernel.violations:
                self.kernel.fault("4", f"{caller.unresolved[0]} cannot be resolved by its key")
        self._settle()  # also before a restart, which tries every order again
        await self._restart_all()
        beats.cancel()
        self._last_questions()
        self.is_over = True

    async def _calm(self) -> None:
        """No trouble any more; everything has its time to recover."""
        self.network.weather, self.disk.is_down, self.disk.latency_ticks = CALM, False, (1, 3)
        self.disk.fates.clear()
        for server in self.servers.values():
            server.process.resume()
        if self.kernel.draw.random() < LOST_IN_THE_END:
            self.trouble.lose_for_good()
        await self.sleep_us((9 if self.is_shared else 6) * SECOND_US)

    async def _restart_all(self) -> None:
        """Crash whatever runs, so that every life also ends with a state that was restored."""
        for server in list(self.servers.values()):
            self.crash(server.process)
        await self.sleep_us((9 if self.is_shared else 4) * SECOND_US)

    def _settle(self) -> Engine | None:
        """What leads has done all its work when nothing has gone wrong for a while."""
        server = next((s for s in self.servers.values() if s.engine and s.engine.leads), None)
        if server is None or server.engine is None:
            self.kernel.fault("4", "nobody leads although all is calm")
            return None
        engine = server.engine
        engine.end_due(engine.now_us())  # what ends just now may let an order in
        server.upkeep.settle()
        if not self.injected["placement: wrong"]:
            self._look_for_work(engine)
        return engine

    def _last_questions(self) -> None:
        """All is as it should be."""
        engine = self._settle()
        if engine is None:
            return
        for told in self.witness.ledger.finish():
            self.kernel.fault("6", str(told))
        if engine.state.version == self.witness.truth.version:
            for told in all_differences(self.witness.truth, engine.state):
                self.kernel.fault("4", f"in the end {told}")
            if self.kernel.draw.random() < REPLAYED:
                self._replay(engine.state)

    def _replay(self, state: MarketState) -> None:
        """The state of who leads is what the journal gives, replayed from the beginning."""
        replayed = restore(base().content)
        for entry in self.disk.entries_after(base().twin.version):
            apply(replayed, decode(entry.payload))
        if state.hash() != replayed.hash():
            self.kernel.fault("10", "the state is not what its journal gives")

    def _look_for_work(self, engine: Engine) -> None:
        """No order waits that could be served, no lease runs on a node that is lost."""
        twin = engine.twin  # its own: what it repaired just now need not be durable yet
        for name in twin.running:
            if any(twin.rows[node]["state"] == "DOWN" for node in twin.leases[name].placement):
                self.kernel.fault("3", f"{name} still runs on a node that is DOWN")
        for order_id in list(engine.state.open_orders):
            try:
                engine.submit(ServeOrder(order_id), NO_STOPWATCH)
            except (Refused, InsufficientFunds):
                continue
            self.kernel.fault("3", f"{order_id} could have been served and was not")


def run(seed: int, operations: int = OPERATIONS) -> Report:
    """Live one life."""
    life = Life(seed, operations)
    with installed(life.kernel), remembered(), quiet(), collector_at_rest(), on_one_core(), life.trouble.solver():
        life.begin_all()
        task = life.loop.create_task(life.live())
        life.kernel.run(lambda: life.is_over or task.done(), LATEST_US)
        for server in life.servers.values():
            server.process.kill()
    if task.done() and not life.is_over and not life.kernel.violations:
        life.kernel.fault("0", f"the callers failed: {task.exception()!r}")
    return Report(
        seed=seed,
        digest=life.disk.head_hash(),
        operations=life.operations,
        outcomes=life.outcomes,
        faults=life.injected + life.network.injected + life.disk.injected,
        violations=life.kernel.violations,
        events=life.disk.sequence,
        lived_s=life.kernel.now_us / SECOND_US,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that trouble brings."""
    log = logging.getLogger("walras")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
