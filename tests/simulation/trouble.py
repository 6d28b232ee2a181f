"""Trouble: what goes wrong in a run beside the network, one thing after another; the operator; the nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.events import Key
from solvers.placement import Placement, Placer
from tests.market.small_market import published
from tests.simulation import planner
from tests.simulation.base import TENANTS, nodes
from tests.simulation.callers import Caller
from tests.simulation.calls import Call
from tests.simulation.kernel import SECOND_US, START_US, TICK_US
from tests.simulation.network import STORM, Weather
from tests.simulation.store import CRASH_AFTER, CRASH_BEFORE, KEPT, LOST
from tests.simulation.system import World

if TYPE_CHECKING:
    from tests.simulation.life import Life


class Operator(Caller):
    """Sets nodes, loads the fleet, posts prices, lets plans be applied."""

    async def do(self, what: str, make: Callable[[Key], Any]) -> None:
        """One command under a key of its own."""
        key = Key(self.tenant, what, f"k{next(self._keys)}", what.encode())
        await self.settle(self.call(what, make(key)))


class Trouble:
    """`silent`: nodes that send no heartbeat; `wrong_answers`: so many of the solver's next answers are wrong."""

    def __init__(self, life: Life) -> None:
        self.life, self.draw = life, life.kernel.draw
        self.operator, self.planner = Operator(life, "operator", 0), Operator(life, "planner", 0)
        self.silent: set[str] = set()
        self.wrong_answers = 0
        self.is_over = False
        self._later: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Six to ten, one after another."""
        ways: tuple[tuple[int, str, Callable[[], Awaitable[None]]], ...] = (
            (5, "server crashed", self._crash),
            (5, "", self._commit),
            (2, "slow disk", self._slow_disk),
            (1, "", self._away),
            (6 if self.life.is_shared else 2, "server paused", self._pause),
            (3, "network storm", self._storm),
            (2, "30 % of the nodes lost", self._lose_nodes),
            (2, "node flaps", self._flap),
            (2, "node drained", self._drain),
            (2, "node set down", self._set_down),
            (2, "prices moved", self._move_prices),
            (3, "", self._wrong_solver),
            (5, "", self._plan),
            (2, "clock jumped", self._jump),
        )
        for _ in range(self.draw.randint(6, 10)):
            await self.life.sleep_us(self.life.kernel.ticks_us(15, 70))
            if self.is_over:
                return
            ((name, way),) = self.draw.choices([(n, w) for _, n, w in ways], [weight for weight, _, _ in ways])
            if name:
                self.life.injected[name] += 1
            self._later.append(self.life.loop.create_task(way()))

    async def beat(self) -> None:
        """All nodes send their heartbeats, a message a supplier and second."""
        own: dict[str, list[str]] = {}
        for row in nodes():
            own.setdefault(row["supplier_id"], []).append(row["node_id"])
        while True:
            await self.life.sleep_us(SECOND_US)
            for supplier, names in own.items():
                heard = tuple(name for name in names if name not in self.silent)
                for server in self.life.names:
                    call = Call(next(self.life.numbers), supplier, "Heartbeats", nodes=heard)
                    self.life.network.tell(call, server)

    async def _for_s(self, low: float, high: float) -> None:
        await self.life.sleep_us(self.life.kernel.ticks_us(int(low * 100), int(high * 100)))

    def _server(self) -> Any:
        return self.life.servers[self.draw.choice(self.life.names)]

    async def _crash(self) -> None:
        self.life.crash(self._server().process)

    async def _commit(self) -> None:
        self.life.disk.fates.append(self.draw.choice((LOST, KEPT, CRASH_BEFORE, CRASH_AFTER, CRASH_AFTER)))

    async def _slow_disk(self) -> None:
        self.life.disk.latency_ticks = self.draw.choice(((30, 120), (30, 120), (100, 300), (500, 700)))
        await self._for_s(0.3, 1.5)
        self.life.disk.latency_ticks = (1, 5)

    async def _away(self) -> None:
        self.life.disk.is_down = True
        await self._for_s(0.2, 2)
        self.life.disk.is_down = False

    async def _until(self, is_so: Callable[[], bool], most_s: float) -> None:
        """Look at every tick."""
        latest_us = self.life.kernel.now_us + most_s * SECOND_US
        while not is_so() and self.life.kernel.now_us < latest_us:
            await self.life.sleep_us(TICK_US)

    async def _pause(self) -> None:
        """Stop who leads, mostly while a commit is under way."""
        leads = self._leaders()
        server = leads[0] if leads else self._server()
        witness, engine = self.life.witness, server.engine
        if engine is not None and self.draw.random() < 0.7:
            await self._until(lambda: engine.state.version > witness.truth.version, 1)
        server.process.pause()
        await self._stay_paused()
        self._ask_only(server.name)
        await self._for_s(0, 0.04)
        server.process.resume()

    async def depose_in_silence(self) -> None:
        """Stop who leads until another does and has answered, while no node beats and nothing comes to its end: so
        a leader that wakes up has nothing to write, and only its lease keeps it from answering."""
        await self._until(lambda: bool(self._leaders()), 10)
        paused = self._leaders()[0]
        paused.process.pause()
        await self._until(lambda: len(self._leaders()) > 1, 10)
        await self.operator.do("Deposit", lambda key: commands.DepositFunds(TENANTS[0], 1_000, key))
        self.life.injected["deposed in silence"] += 1
        self._ask_only(paused.name)
        await self._for_s(0, 0.04)
        paused.process.resume()

    def _leaders(self) -> list[Any]:
        """Who believes to lead, paused or not."""
        return [server for server in self.life.servers.values() if server.engine and server.engine.leads]

    def _ask_only(self, name: str) -> None:
        """Readers that know one server only, whatever another has told meanwhile."""
        for tenant in TENANTS:
            acked_version = self.life.witness.acked_version
            call = Call(next(self.life.numbers), tenant, "Balance", acked_version=acked_version)
            self.life.network.tell(call, name)

    async def _stay_paused(self) -> None:
        """Where another can take over: less than a lease, until it just has, or long after."""
        if not self.life.is_shared:
            await self._for_s(0.1, 2)
            return
        length, epoch = self.draw.choice(("short", "just", "just", "long")), self.life.disk.epoch
        if length == "just":
            await self._until(lambda: self.life.disk.epoch > epoch, 6)
            await self._for_s(0, 0.3)
        else:
            await self._for_s(*((0.1, 2.4) if length == "short" else (2.5, 6)))

    async def _storm(self) -> None:
        self.life.network.weather = STORM
        await self._for_s(0.3, 1.5)
        self.life.network.weather = Weather()

    async def _be_silent(self, names: list[str], low: float, high: float) -> None:
        self.silent.update(names)
        await self._for_s(low, high)
        self.silent.difference_update(names)

    async def _lose_nodes(self) -> None:
        await self._be_silent(self.draw.sample([row["node_id"] for row in nodes()], 4), 3.5, 7)

    async def _flap(self) -> None:
        name = self.draw.choice(nodes())["node_id"]
        for _ in range(2):
            await self._be_silent([name], 0.8, 3.6)
            await self._for_s(0.5, 2.5)

    async def _drain(self) -> None:
        name, notice_s = self.draw.choice(nodes())["node_id"], self.draw.choice((0, 1, 3))
        await self.operator.do("DrainNode", lambda key: commands.DrainNode(name, notice_s, key))
        await self._for_s(1, 6)
        await self._set(name, NodeState.READY)

    async def _set(self, name: str, state: NodeState) -> None:
        await self.operator.do("SetNodeState", lambda key: commands.SetNodeState(name, state, key))

    async def _set_down(self) -> None:
        name = self.draw.choice(nodes())["node_id"]
        await self._set(name, NodeState.DOWN)
        if self.draw.random() < 0.5:
            await self._for_s(0.5, 5)
            await self._set(name, NodeState.READY)

    async def _move_prices(self) -> None:
        server = self._server()
        if server.engine is None:
            return
        state, price = server.engine.state, self.draw.choice((1_200_000, 2_000_000, 2_700_000))
        event = published(state, state.oracle.epoch + 1, START_US + self.life.kernel.now_us, price, price, 48.0)
        await self.operator.settle(self.operator.call("PublishPrices", commands.PublishPrices(event)))

    async def _wrong_solver(self) -> None:
        self.wrong_answers += self.draw.randint(1, 3)

    async def _plan(self) -> None:
        """A plan on a snapshot: honest, late or wrong."""
        engine = next((server.engine for server in self._leaders()), None)
        how = self.draw.choice(("honest", "late", "late", *planner.WRONG))
        changes = None if engine is None else planner.changes(engine.state, self.draw, how)
        if changes is None:
            return
        self.life.injected[f"plan: {how}"] += 1
        if how == "late":
            await self._for_s(0.3, 4)
        number = self.life.injected.total()
        await self.planner.do("ApplyPlan", lambda key: commands.ApplyPlan("planner", f"p-{number}", changes, key))

    async def _jump(self) -> None:
        self._server().skew_us += self.life.kernel.ticks_us(-200, 100)

    async def end(self) -> None:
        """No more of it; what was begun comes to its end."""
        self.is_over, self.wrong_answers = True, 0
        await asyncio.gather(*self._later)
        self.silent.clear()

    def lose_for_good(self) -> None:
        """Nodes fall silent on which something runs for long, when all else is calm."""
        truth, later_us = self.life.witness.truth, START_US + self.life.kernel.now_us + 60 * SECOND_US
        long = [name for name in truth.running if truth.leases[name].ends_us > later_us]
        if long:
            self.life.injected["nodes lost in the end"] += 1
            self.silent.update(truth.leases[self.draw.choice(long)].placement)

    @contextmanager
    def solver(self) -> Iterator[None]:
        """The real solver, whose answers are sometimes spoiled before the market sees them.

        Only a replay asks it in a thread, and none should: there it answers as a later release might.
        """
        place = Placer.place

        def spoiled(placer: Placer, *given: Any) -> Any:
            found = place(placer, *given)
            if World.thread is not None and isinstance(found, Placement):
                return replace(found, nodes=(found.nodes + 1) % 12)
            if self.wrong_answers and isinstance(found, Placement):
                self.wrong_answers -= 1
                self.life.injected["placement: wrong"] += 1
                return _spoiled(found, self.draw)
            return found

        with patch.object(Placer, "place", spoiled):
            yield


def _spoiled(found: Placement, draw: Any) -> Placement:
    kind = draw.choice(("one GPU more", "other nodes", "half of it", "a node twice"))
    nodes_, gpus = found.nodes.copy(), found.gpus.copy()
    if kind == "one GPU more":
        gpus[0] += 1
    elif kind == "other nodes":
        nodes_ = (nodes_ + draw.randint(1, 11)) % 12
    elif kind == "half of it" and gpus.size > 1:
        return replace(found, nodes=nodes_[:1], gpus=gpus[:1], prices_micro_usd=found.prices_micro_usd[:1])
    else:
        nodes_, gpus = np.repeat(nodes_, 2), np.repeat(gpus, 2)
        return replace(found, nodes=nodes_, gpus=gpus, prices_micro_usd=np.repeat(found.prices_micro_usd, 2))
    return replace(found, nodes=nodes_, gpus=gpus)
