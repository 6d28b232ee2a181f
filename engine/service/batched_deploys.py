"""Batches of deployments: each item decided like a call of its own, all of a message made durable together.

An item goes through what a call goes through: its account's quota, a turn among all callers, parsing, its key, the
decision with its audit. Turns are short, so that a batch holds up nobody. Items that are alike are decided
together (`engine.market.many_decision`): the same answers and the same state as one by one, for a fraction of the
time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from walras.v1 import cluster_service_pb2 as pb

from engine.domain.cluster_request import with_request_id
from engine.domain.errors import InvalidInput, Overloaded, Refused, WalrasError
from engine.market.commands import DeployMany
from engine.market.decide import made_by
from engine.market.events import LeasesStarted, WantedRequest
from engine.market.state import Lease
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.acts import note_part
from engine.service.admission import Admission
from engine.service.batch_items import BatchItem, items_of, together
from engine.service.batch_reply import BatchReply
from engine.service.engine import Engine
from engine.service.identity import caller, calling_tenant
from engine.service.refusals import Refusals
from engine.trust.permissions import METHODS
from engine.trust.principal import Principal

ITEM = METHODS["ClusterService/DeployCluster"]
"""What an item counts as."""
TURN_S = 0.008
"""After so long the next callers have their turn."""
MANY_MAX, GPUS_MAX, GROWTH = 256, 4_096, 4
"""Items and their GPUs that are decided together: no longer than a turn, or so."""


class BatchedDeploys:
    """Answers messages of DeployClusters. `note_refused`: told of every request that was refused."""

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        refusals: Refusals,
        note_refused: Callable[[WantedRequest], None],
    ) -> None:
        self._engine, self._admission = engine, admission
        self._refusals, self._note_refused = refusals, note_refused

    async def answer(self, message: Any, remaining_s: Callable[[], float | None]) -> pb.DeployClustersResponse:
        """What became of the items of one message; InvalidInput if it is no list of items."""
        items = items_of(calling_tenant(), message)
        reply = BatchReply(self._engine.state, whole=message.whole_leases)
        while reply.count < len(items):
            await self._turn(caller(), items, reply, _seconds(remaining_s()))
            await asyncio.sleep(0)
        await self._engine.read(lambda _: None)
        if (about := reply.about()) is not None:
            note_part(about)
        return reply.message

    async def _turn(
        self, principal: Principal, items: list[BatchItem], reply: BatchReply, remaining_s: float
    ) -> None:
        """Answer as many of the next items as there is time for. If there is no turn, none of the rest is done."""
        try:
            async with self._admission.place(principal, mutates=True, remaining_s=remaining_s):
                ends_s, ahead = time.perf_counter() + TURN_S, MANY_MAX
                with self._engine.gathering():
                    while reply.count < len(items):
                        ahead = self._serve(principal, items[reply.count : reply.count + ahead], reply)
                        if time.perf_counter() >= ends_s:
                            break
        except Overloaded as refusal:
            for item in items[reply.count :]:
                reply.add_error(refusal, item)

    def _serve(self, principal: Principal, items: list[BatchItem], reply: BatchReply) -> int:
        """Answer the first of some items, one at least. How many are to be tried next: after one that was in the
        way few, as the next may be in the way, too."""
        within = self._admission.room(principal, ITEM, len(items))
        many = together(items[:within], GPUS_MAX) if within > 1 else None
        if many is None:
            leased = self._serve_one(principal, items[0], reply)
            return min(MANY_MAX, GROWTH * len(items)) if leased else 1
        tried = len(many.keys)
        served = self._serve_many(principal, items[:tried], many, reply)
        return min(MANY_MAX, GROWTH * tried) if served == tried else 1

    def _serve_many(
        self, principal: Principal, items: list[BatchItem], many: DeployMany, reply: BatchReply
    ) -> int:
        """Answer those of alike items that nothing stands against before the first in the way; how many."""
        try:
            events, _ = self._engine.submit(many, NO_STOPWATCH)
        except WalrasError as error:
            for item in items:
                reply.add_error(error, item)
            return len(items)
        started = sum(reply.add_many(event) for event in events if isinstance(event, LeasesStarted))
        self._admission.take_many(principal, ITEM, started)
        return started

    def _serve_one(self, principal: Principal, item: BatchItem, reply: BatchReply) -> bool:
        """Answer one item; whether it became a lease."""
        try:
            self._admission.take(principal, ITEM)
            lease = self._deploy(item)
        except WalrasError as error:
            reply.add_error(error, item)
            return False
        reply.add_lease(lease)
        return True

    def _deploy(self, item: BatchItem) -> Lease:
        """The durable-to-be lease of an item."""
        command = item.command()
        try:
            events, _ = self._engine.submit(command, NO_STOPWATCH)
        except InvalidInput as error:
            raise error.within("cluster.") from None
        except Refused as refusal:
            wanted = with_request_id(command.request, "")
            self._note_refused(WantedRequest(command.tenant_id, wanted))
            raise self._refusals.told(self._engine.state, wanted, refusal) from None
        state = self._engine.state
        return state.leases[made_by(state, events, command.key)]


def _seconds(remaining_s: float | None) -> float:
    """A stream whose caller set no deadline ends at the engine's, which its interceptor keeps."""
    return math.inf if remaining_s is None else remaining_s
