"""The network between callers and servers: it loses, delays, doubles and reorders what goes either way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.calls import Call, Reply
from tests.simulation.kernel import TICK_US, Kernel, ProcessLoop

if TYPE_CHECKING:
    from tests.simulation.server import Server

TIMEOUT_S = 1.0
TIMED_OUT = Reply(0, 0, error="TIMEOUT")


@dataclass(frozen=True)
class Weather:
    """How often a message is lost, late or doubled."""

    lost: float = 0.02
    late: float = 0.02
    doubled: float = 0.03


STORM, CALM = Weather(0.25, 0.15, 0.15), Weather(0.0, 0.0, 0.0)


class Network:
    """`injected`: what was done to messages, by kind."""

    def __init__(self, kernel: Kernel, loop: ProcessLoop, server_of: Callable[[str], Server]) -> None:
        self._kernel, self._loop, self._server_of = kernel, loop, server_of
        self.weather = Weather()
        self.injected: Counter[str] = Counter()

    async def ask(self, call: Call, to: str, arrives_in_us: int | None = None) -> Reply:
        """The reply to a call, or TIMEOUT. `arrives_in_us`: its first copy comes just then, unless it is lost."""
        future: asyncio.Future[Reply] = self._loop.create_future()

        def arrived(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        def answered(reply: Reply) -> None:
            self._pass_on("reply", lambda: arrived(reply), None)

        self._pass_on("call", lambda: self._deliver(call, to, answered), arrives_in_us)
        patience = self._loop.call_later(TIMEOUT_S + (arrives_in_us or 0) / 1e6, arrived, TIMED_OUT)
        try:
            return await future
        finally:
            patience.cancel()

    def tell(self, call: Call, to: str) -> None:
        """Send a call whose reply nobody waits for."""
        self._pass_on("call", lambda: self._deliver(call, to, lambda reply: None), None)

    def _deliver(self, call: Call, to: str, answered: Callable[[Reply], None]) -> None:
        server = self._server_of(to)
        self._kernel.at(0, server.process, server.arrives, call, answered)

    def _pass_on(self, kind: str, deliver: Callable[[], None], delay_us: int | None) -> None:
        draw, weather = self._kernel.draw, self.weather
        if draw.random() < weather.lost:
            self.injected[f"{kind} lost"] += 1
            return
        copies = 1
        if draw.random() < weather.doubled:
            copies = 2
            self.injected[f"{kind} doubled"] += 1
        for copy in range(copies):
            after_us = self._kernel.ticks_us(1, 5) if delay_us is None or copy else delay_us
            if draw.random() < weather.late:
                self.injected[f"{kind} late"] += 1
                after_us += self._kernel.ticks_us(20, 400)
            self._kernel.at(max(after_us, TICK_US * copy), None, deliver, rank=self._kernel.any_rank())
