"""FleetService: bulk loads, nodes, counts."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import AsyncIterator
from typing import Any

import polars as pl
from walras.v1 import fleet_service_pb2 as pb
from walras.v1.fleet_service_pb2_grpc import FleetServiceServicer

from engine.domain.errors import InvalidInput, NotFound, Violation
from engine.domain.tables import check_fleet, check_rtt
from engine.domain.tiers import NodeState
from engine.market.commands import DrainNode, LoadFleet, SetNodeState
from engine.market.decide import made_by
from engine.market.events import AnyEvent
from engine.market.heartbeats import HeartbeatRules
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from engine.service.fields import (
    Checks,
    body_hash,
    idempotency_key,
    key_of,
    page_size,
    page_start,
    page_token,
    resource_id,
)
from engine.service.fleet_codec import FleetChunks, load_message, node_message, stats_message
from engine.service.heartbeats import HeartbeatRunner
from engine.service.identity import calling_tenant

HEARTBEATS_MAX = 4_096
NOTICE_S_MAX = 30 * 86_400


class FleetService(FleetServiceServicer):
    """Thin: collect, check, submit, await durability, answer."""

    def __init__(self, engine: Engine, heartbeats: HeartbeatRunner | None = None) -> None:
        """`heartbeats`: who notes what they mean; a service alone only takes them in."""
        self._engine = engine
        self._heartbeats = heartbeats or HeartbeatRunner(engine, HeartbeatRules())

    async def LoadFleet(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.LoadFleetRequest], context: Any
    ) -> pb.LoadFleetResponse:
        """All chunks as one load."""
        chunks, digest, key_text = FleetChunks(), hashlib.sha256(), ""
        async for chunk in request_iterator:
            key_text = key_text or chunk.idempotency_key
            chunks.add(chunk)
            digest.update(body_hash(chunk))
        checks = Checks()
        key = checks.read(key_of, calling_tenant(), "LoadFleet", key_text, digest.digest()) if key_text else None
        checked = await checks.read_in_thread(_checked, chunks)
        checks.done()
        assert checked is not None

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.LoadFleetResponse:
            return load_message(state.loads[made_by(state, events, key)])

        return await self._engine.execute(LoadFleet(*checked, key), NO_STOPWATCH, answer)

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.Node:  # noqa: N802
        """One node."""
        node_id = resource_id(request.name, "nodes")
        return await self._engine.read(lambda state: _node(state, node_id))

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:  # noqa: N802
        """Nodes by id."""
        checks = Checks()
        size = checks.read(page_size, request.page_size)
        after = checks.read(page_start, request.page_token)
        checks.done()
        assert size is not None and after is not None

        def answer(state: MarketState) -> pb.ListNodesResponse:
            ids = state.inventory.sorted_ids
            start = bisect_right(ids, after)
            page = ids[start : start + size]
            response = pb.ListNodesResponse(nodes=[_node(state, node_id) for node_id in page])
            if start + size < len(ids):
                response.next_page_token = page_token(page[-1])
            return response

        return await self._engine.read(answer)

    async def SetNodeState(self, request: pb.SetNodeStateRequest, context: Any) -> pb.Node:  # noqa: N802
        """The node in its new state; only READY nodes take new work. With a notice its leases have to leave."""
        checks = Checks()
        node_id = checks.read(resource_id, request.name, "nodes")
        node_state = checks.read(_node_state, request.state)
        notice_s = checks.read(_notice_s, request)
        key = checks.read(idempotency_key, calling_tenant(), "SetNodeState", request)
        checks.done()
        assert node_id is not None and node_state is not None
        command = SetNodeState(node_id, node_state, key) if notice_s is None else DrainNode(node_id, notice_s, key)
        return await self._engine.execute(command, NO_STOPWATCH, lambda state, events: _node(state, node_id))

    async def ReportHeartbeats(  # noqa: N802
        self, request: pb.ReportHeartbeatsRequest, context: Any
    ) -> pb.ReportHeartbeatsResponse:
        """Heartbeats are taken in at once; what they mean comes with the next tick."""
        if len(request.node_ids) > HEARTBEATS_MAX:
            text = f"has {len(request.node_ids):,} entries, at most {HEARTBEATS_MAX:,} are allowed"
            raise InvalidInput([Violation("node_ids", text)])
        return pb.ReportHeartbeatsResponse(
            unknown_node_ids=self._heartbeats.beat(request.node_ids),
            period_ms=round(self._heartbeats.heartbeats.rules.period_s * 1_000),
        )

    async def GetFleetStats(self, request: pb.GetFleetStatsRequest, context: Any) -> pb.FleetStats:  # noqa: N802
        """Counts of GPUs."""
        return await self._engine.read(stats_message)


def _node(state: MarketState, node_id: str) -> pb.Node:
    if node_id not in state.inventory.number:
        raise NotFound(f"there is no node nodes/{node_id}")
    return node_message(state.inventory, state.inventory.number[node_id])


def _node_state(name: str) -> NodeState:
    if name not in NodeState.__members__:
        known = ", ".join(NodeState.__members__)
        raise InvalidInput([Violation("state", f"must be one of {known}, got {name[:40]!r}")])
    return NodeState[name]


def _notice_s(request: pb.SetNodeStateRequest) -> int | None:
    if not request.HasField("notice_s"):
        return None
    found = []
    if request.state != NodeState.DRAINING.name:
        found.append(Violation("notice_s", "is for DRAINING only"))
    if not 0 <= request.notice_s <= NOTICE_S_MAX:
        found.append(Violation("notice_s", f"must be between 0 and {NOTICE_S_MAX:,}, got {request.notice_s}"))
    if found:
        raise InvalidInput(found)
    return int(request.notice_s)


def _checked(chunks: FleetChunks) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(nodes, measured pairs) of a load; InvalidInput lists what is wrong in either."""
    nodes, rtts = chunks.nodes(), chunks.rtts()
    violations = chunks.violations
    if nodes.is_empty() and rtts.is_empty() and not violations:
        violations.append(Violation("nodes", "the load is empty"))
    for check, frame, name in ((check_fleet, nodes, "nodes"), (check_rtt, rtts, "rtts")):
        try:
            check(frame, name)
        except InvalidInput as error:
            violations.extend(error.violations)
    if violations:
        raise InvalidInput(violations)
    return nodes, rtts
