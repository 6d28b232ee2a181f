"""Serving orders on one engine: a bounded piece of work at a time, as long as there is any."""

from __future__ import annotations

import logging
import time

from engine.domain.errors import AuditFailed, InsufficientFunds, InvalidInput, Overloaded, Refused, Unavailable
from engine.market.commands import ServeOrder
from engine.market.order_queue import OrderQueue
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine

log = logging.getLogger("walras.orders")
STEP_NS = 4_000_000
"""After so long a step begins no further try, so that other calls get their turn."""


class OrderRunner:
    """Tries orders in the order of the queue."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.queue = engine, OrderQueue()

    def step(self) -> bool:
        """One piece of work; whether there is more. Overloaded, Unavailable if the journal takes nothing now."""
        due = self.queue.step(self._engine.state)
        if due is None:
            return False
        begun_ns, left = time.perf_counter_ns(), due[::-1]
        try:
            while left and time.perf_counter_ns() - begun_ns < STEP_NS:
                self._try(order_id := left.pop())
        except (Overloaded, Unavailable):
            left.append(order_id)
            raise
        finally:
            self.queue.put_back(left[::-1])
        return True

    def _try(self, order_id: str) -> None:
        try:
            self._engine.submit(ServeOrder(order_id), NO_STOPWATCH)
        except Refused as refusal:
            self.queue.asleep(order_id, refusal.reason)
        except InsufficientFunds:
            self.queue.unfunded(self._engine.state, order_id)
        except (AuditFailed, InvalidInput) as error:
            log.error("orders/%s could not be served: %s", order_id, error)
