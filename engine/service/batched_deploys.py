"""Batches of deployments: each item decided like a call of its own, all of a message made durable together.

An item goes through what a call goes through: its account's quota, a turn among all callers, parsing, its key, the
decision with its audit. Turns are short, so that a batch holds up nobody, and a message of many items costs the
engine's loop no more at a time than a call does.
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
from engine.market.decide import made_by
from engine.market.events import WantedRequest
from engine.market.state import Lease
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.acts import note_part
from engine.service.admission import Admission
from engine.service.batch_items import BatchItem, items_of
from engine.service.batch_reply import BatchReply
from engine.service.engine import Engine
from engine.service.identity import caller, calling_tenant
from engine.trust.permissions import METHODS
from engine.trust.principal import Principal

ITEM = METHODS["ClusterService/DeployCluster"]
"""What an item counts as."""
TURN_S = 0.008
"""After so long the next callers have their turn."""


class BatchedDeploys:
    """Answers messages of DeployClusters. `note_refused`: told of every request that was refused."""

    def __init__(
        self, engine: Engine, admission: Admission, note_refused: Callable[[WantedRequest], None]
    ) -> None:
        self._engine, self._admission, self._note_refused = engine, admission, note_refused

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
                ends_s = time.perf_counter() + TURN_S
                with self._engine.gathering():
                    for item in items[reply.count :]:
                        self._serve(principal, item, reply)
                        if time.perf_counter() >= ends_s:
                            break
        except Overloaded as refusal:
            for item in items[reply.count :]:
                reply.add_error(refusal, item)

    def _serve(self, principal: Principal, item: BatchItem, reply: BatchReply) -> None:
        try:
            self._admission.take(principal, ITEM)
            lease = self._deploy(item)
        except WalrasError as error:
            reply.add_error(error, item)
        else:
            reply.add_lease(lease)

    def _deploy(self, item: BatchItem) -> Lease:
        """The durable-to-be lease of an item."""
        command = item.command()
        try:
            events, _ = self._engine.submit(command, NO_STOPWATCH)
        except InvalidInput as error:
            raise error.within("cluster.") from None
        except Refused:
            wanted = with_request_id(command.request, "")
            self._note_refused(WantedRequest(command.tenant_id, wanted))
            raise
        state = self._engine.state
        return state.leases[made_by(state, events, command.key)]


def _seconds(remaining_s: float | None) -> float:
    """A stream whose caller set no deadline ends at the engine's, which its interceptor keeps."""
    return math.inf if remaining_s is None else remaining_s
