"""Single deployments that come at the same time, decided together as the items of a batch are.

Deciding alike requests together costs a fraction of deciding them one by one. So while many calls are under way,
one that can be decided with others waits for them: until none has come for a moment, while others are answered,
but not for long. They are answered as if they had come one after the other; what is in the way of the others is
decided alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.domain.cluster_request import text_problem
from engine.domain.errors import WalrasError
from engine.market.decide import made_by
from engine.market.events import LeasesStarted
from engine.market.many_leases import lease_ids_of
from engine.market.state import Lease, MarketState
from engine.market.stopwatch import Stopwatch
from engine.service.batch_items import BatchItem, Calls, together
from engine.service.engine import Engine

CROWD = 8
"""Calls under way, from which on waiting for others pays."""
QUIET_S, WAIT_QUIETS = 0.001, 30
"""Nobody waits longer than so many quiet moments."""
TRY_S = 0.05
"""How often a call waits to see whether there is a crowd: what gRPC has not handed over yet cannot be counted."""
MANY_MAX, GPUS_MAX, GROWTH = 64, 4_096, 4
Reply = TypeVar("Reply")
Answer = Callable[[MarketState, Lease, bool], Reply]
"""What a lease's caller is told; whether the lease is new."""


@dataclass(slots=True)
class _Waiting:
    item: BatchItem
    stopwatch: Stopwatch
    answer: Answer[Any]
    reply: asyncio.Future[Any]

    def answered(self, state: MarketState, lease_id: str, laps_us: dict[str, int], *, is_new: bool = True) -> Any:
        """What its lease says; its stopwatch is told what that took."""
        self.stopwatch.laps_us |= laps_us
        reply = self.answer(state, state.leases[lease_id], is_new)
        self.stopwatch.lap("reply")
        return reply


class GatheredDeploys:
    """Of one engine. `under_way`: how many calls are; from `crowd` on they are gathered, until none has come for
    `quiet_s`."""

    def __init__(
        self, engine: Engine, under_way: Callable[[], int], crowd: int = CROWD, quiet_s: float = QUIET_S
    ) -> None:
        self._engine, self._under_way, self._crowd, self._quiet_s = engine, under_way, crowd, quiet_s
        self._waiting: list[_Waiting] = []
        self._looked_at, self._lately, self._tried_s = 0, 0.0, 0.0
        self._known: dict[str, Calls] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def item_of(self, tenant_id: str, request: Any) -> BatchItem | None:
        """The call as an item, if it can be decided with others and there are some; None: decide it by itself."""
        if request.quote or request.omit_placement or not self._waits():
            return None
        if not self._waiting:
            self._known.clear()
        call = self._known.setdefault(tenant_id, Calls(tenant_id)).of(request)
        key = request.idempotency_key
        return None if call.shape is None or (key and text_problem(key)) else BatchItem("", call, key)

    def _waits(self) -> bool:
        """Whether a call waits for others: if some do, if there were many lately, or to see whether there are."""
        under_way = self._under_way()
        if self._waiting or max(under_way, self._lately) >= self._crowd:
            return True
        return under_way > 1 and asyncio.get_running_loop().time() >= self._tried_s + TRY_S

    async def decided(self, item: BatchItem, stopwatch: Stopwatch, answer: Answer[Reply]) -> Reply:
        """What `answer` reads off the state when the item has become a lease, given out once that is durable;
        raises why it has become none. `stopwatch` gets its share of the time."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, stopwatch, answer, loop.create_future())
        self._engine.calls += 1
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._looked_at, self._tried_s = 0, loop.time()
            self._look_later()
        reply: Reply = await waiting.reply
        return reply

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._quiet_s, self._look, loop.time() + 2 * self._quiet_s)

    def _look(self, busy_s: float) -> None:
        """Decide if nobody has come since the last look and no others are being answered, or if there are many, or
        it is time. A look after `busy_s` says nothing: the loop had other things to do than to let calls in."""
        loop, count = asyncio.get_running_loop(), len(self._waiting)
        now_s, latest_s = loop.time(), self._tried_s + WAIT_QUIETS * self._quiet_s
        more_may_come = count > self._looked_at or now_s > busy_s or self._answering
        if more_may_come and count < MANY_MAX and now_s < latest_s:
            self._looked_at = count
            self._look_later()
            return
        waiting, self._waiting = self._waiting, []
        self._lately = max(count, self._lately / 2)
        by_tenant: dict[str, list[_Waiting]] = {}
        for each in waiting:
            if not each.reply.done():  # whoever went away meanwhile has asked for nothing
                by_tenant.setdefault(each.item.call.tenant_id, []).append(each)
        for own in by_tenant.values():
            answering = loop.create_task(self._serve(own))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _serve(self, waiting: list[_Waiting]) -> None:
        """Decide a tenant's items at once, and answer once all are durable."""
        try:
            with self._engine.gathering():
                outcomes = self._outcomes(waiting)
            await self._engine.settled()
        except Exception as error:  # whatever it is, it is that of each of these calls
            outcomes = [error] * len(waiting)
        for each, outcome in zip(waiting, outcomes, strict=True):
            if each.reply.done():
                continue
            if isinstance(outcome, Exception):
                each.reply.set_exception(outcome)
            else:
                each.reply.set_result(outcome)

    def _outcomes(self, waiting: list[_Waiting]) -> list[Any]:
        """The answer of each, or the error instead."""
        outcomes: list[Any] = []
        ahead = MANY_MAX
        while len(outcomes) < len(waiting):
            some = waiting[len(outcomes) : len(outcomes) + ahead]
            found = self._together(some)
            outcomes += found or [self._alone(some[0])]
            ahead = min(MANY_MAX, GROWTH * max(len(found), 1))
        return outcomes

    def _together(self, waiting: list[_Waiting]) -> list[Any]:
        """The answers of the first that nothing stands against, if there are two."""
        many = together([each.item for each in waiting], GPUS_MAX) if len(waiting) > 1 else None
        if many is None:
            return []
        stopwatch = waiting[0].stopwatch.again()
        try:
            events, _ = self._engine.submit(many, stopwatch)
        except WalrasError as error:
            return [error] * len(many.keys)
        leases = [each for event in events if isinstance(event, LeasesStarted) for each in lease_ids_of(event)]
        laps_us = {stage: took_us // max(len(leases), 1) for stage, took_us in stopwatch.laps_us.items()}
        return [
            each.answered(self._engine.state, lease_id, laps_us)
            for each, lease_id in zip(waiting, leases, strict=False)
        ]

    def _alone(self, waiting: _Waiting) -> Any:
        """The answer of one that is decided by itself, or the error instead."""
        command, state, stopwatch = waiting.item.command(), self._engine.state, waiting.stopwatch.again()
        try:
            events, _ = self._engine.submit(command, stopwatch)
            made = made_by(state, events, command.key)
            return waiting.answered(state, made, stopwatch.laps_us, is_new=bool(events))
        except WalrasError as error:
            return error
