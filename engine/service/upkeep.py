"""What the engine does by itself when the market changes: repair leases first, then serve orders.

It sleeps until an event is applied, so that nothing is polled; each piece of work is bounded, and calls get their
turn in between.
"""

from __future__ import annotations

import asyncio
import logging

from engine.domain.errors import Overloaded, WalrasError
from engine.market.heartbeats import HeartbeatRules
from engine.service.engine import Engine
from engine.service.failure_runner import Repairs
from engine.service.heartbeats import HeartbeatRunner
from engine.service.order_runner import OrderRunner
from engine.service.pauses import Pauses

log = logging.getLogger("walras.upkeep")


class Upkeep:
    """All of it on one engine."""

    def __init__(self, engine: Engine, rules: HeartbeatRules) -> None:
        self._engine = engine
        self.repairs, self.orders = Repairs(engine), OrderRunner(engine)
        self.heartbeats = HeartbeatRunner(engine, rules)
        self._bell, self._works, self._pauses = asyncio.Event(), False, Pauses(engine)
        self._bell.set()
        engine.listeners.append(self._bell.set)

    def tick(self) -> None:
        """What time alone brings, unless another engine leads: silence, and notices that are over."""
        if not self._engine.leads:
            return
        self.heartbeats.tick()
        if self.repairs.is_due():
            self._bell.set()

    @property
    def is_resting(self) -> bool:
        """Whether nothing is being done, nor waits to be."""
        return not self._works and not self._bell.is_set()

    def step(self) -> bool:
        """One piece of work; whether there may be more."""
        return self.repairs.step() or self.orders.step()

    def settle(self) -> None:
        """All the work there is, at once."""
        while self.step():
            pass

    async def run(self) -> None:
        """Work whenever something changed and this engine leads, until cancelled."""
        while True:
            self._works = False
            await self._bell.wait()
            self._bell.clear()
            if not self._engine.leads or self._engine.journal.failure is not None:
                continue
            self._works = True
            try:
                self._pauses.begin()
                while self.step():
                    await self._pauses.pause()
            except Overloaded as full:
                self._bell.set()
                await asyncio.sleep(full.retry_after_s)
            except WalrasError as error:
                log.warning("orders and repairs wait: %s", error)
            except Exception:
                log.exception("orders and repairs failed; they wait for the next change")
