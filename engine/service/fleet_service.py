"""FleetService: bulk loads, nodes, counts."""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from typing import Any

import polars as pl
from walras.v1 import fleet_service_pb2 as pb
from walras.v1.fleet_service_pb2_grpc import FleetServiceServicer

from engine.domain.errors import InvalidInput, Violation
from engine.domain.tables import check_fleet, check_rtt
from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.decide import made_by
from engine.market.events import AnyEvent
from engine.market.heartbeats import HeartbeatRules
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
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
from engine.service.fleet_access import check_reporter, known_ids, known_node, reportable, supplier_scope
from engine.service.fleet_codec import FleetChunks, load_message, node_message, stats_message
from engine.service.heartbeats import HeartbeatRunner
from engine.service.identity import caller
from engine.service.load_pace import LoadPace
from engine.trust.principal import Principal, Role
from engine.trust.quotas import UNBOUNDED

GET_NODE, SET_NODE_STATE = "FleetService/GetNode", "FleetService/SetNodeState"
REPORT_HEARTBEATS = "FleetService/ReportHeartbeats"

HEARTBEATS_MAX = 4_096
NOTICE_S_MAX = 30 * 86_400


class FleetService(FleetServiceServicer):
    """Thin: collect, check, submit, await durability, answer."""

    def __init__(
        self, engine: Engine, load_percent_max: float = UNBOUNDED, heartbeats: HeartbeatRunner | None = None
    ) -> None:
        """`load_percent_max`: as in `Quotas`. `heartbeats`: who notes what they mean."""
        self._engine, self._pace = engine, LoadPace(time.monotonic, load_percent_max / 100)
        self._heartbeats = heartbeats or HeartbeatRunner(engine, HeartbeatRules())

    async def LoadFleet(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.LoadFleetRequest], context: Any
    ) -> pb.LoadFleetResponse:
        """All chunks as one load."""
        principal = caller()
        paced = principal.account if principal.has(Role.SUPPLIER) else None
        with self._pace.receiving(paced):
            command = await self._received(principal, request_iterator)
            self._pace.check(paced)
            stopwatch = Stopwatch(time.perf_counter_ns)

            def answer(state: MarketState, events: list[AnyEvent]) -> pb.LoadFleetResponse:
                self._pace.done(paced, stopwatch.laps_us.get("apply", 0) / 1e6)
                return load_message(state.loads[made_by(state, events, command.key)])

            return await self._engine.execute(command, stopwatch, answer)

    async def _received(
        self, principal: Principal, chunks: AsyncIterator[pb.LoadFleetRequest]
    ) -> commands.LoadFleet:
        """The whole load, checked."""
        collected, digest, key_text = FleetChunks(), hashlib.sha256(), ""
        async for chunk in chunks:
            key_text = key_text or chunk.idempotency_key
            collected.add(chunk)
            digest.update(body_hash(chunk))
        checks = Checks()
        key = checks.read(key_of, principal.account, "LoadFleet", key_text, digest.digest()) if key_text else None
        checked = await checks.read_in_thread(_checked, collected)
        checks.done()
        assert checked is not None
        return commands.LoadFleet(*checked, key, supplier_scope(principal))

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.Node:  # noqa: N802
        """One node."""
        node_id, principal = resource_id(request.name, "nodes"), caller()
        return await self._engine.read(
            lambda state: node_message(state.inventory, known_node(state, principal, GET_NODE, node_id))
        )

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:  # noqa: N802
        """Nodes by id."""
        checks = Checks()
        size = checks.read(page_size, request.page_size)
        after = checks.read(page_start, request.page_token)
        checks.done()
        assert size is not None and after is not None

        principal = caller()

        def answer(state: MarketState) -> pb.ListNodesResponse:
            ids = known_ids(state, principal)
            start = bisect_right(ids, after)
            page = ids[start : start + size]
            response = pb.ListNodesResponse(nodes=[_node(state, node_id) for node_id in page])
            if start + size < len(ids):
                response.next_page_token = page_token(page[-1])
            return response

        return await self._engine.read(answer)

    async def SetNodeState(self, request: pb.SetNodeStateRequest, context: Any) -> pb.Node:  # noqa: N802
        """The node in its new state; only READY nodes take new work. With a notice its leases have to leave."""
        principal, checks = caller(), Checks()
        node_id = checks.read(resource_id, request.name, "nodes")
        node_state = checks.read(_node_state, request.state)
        notice_s = checks.read(_notice_s, request)
        key = checks.read(idempotency_key, principal.account, "SetNodeState", request)
        checks.done()
        assert node_id is not None and node_state is not None
        check_reporter(principal, SET_NODE_STATE, node_id, node_state)
        scope = supplier_scope(principal)
        command = (
            commands.SetNodeState(node_id, node_state, key, scope)
            if notice_s is None
            else commands.DrainNode(node_id, notice_s, key, scope)
        )
        return await self._engine.execute(command, NO_STOPWATCH, lambda state, events: _node(state, node_id))

    async def ReportHeartbeats(  # noqa: N802
        self, request: pb.ReportHeartbeatsRequest, context: Any
    ) -> pb.ReportHeartbeatsResponse:
        """Heartbeats are taken in at once; what they mean comes with the next tick."""
        if len(request.node_ids) > HEARTBEATS_MAX:
            text = f"has {len(request.node_ids):,} entries, at most {HEARTBEATS_MAX:,} are allowed"
            raise InvalidInput([Violation("node_ids", text)])
        known = reportable(self._engine.state, caller(), REPORT_HEARTBEATS)
        own = [node_id for node_id in request.node_ids if known(node_id)]
        self._heartbeats.beat(own)
        reported = set(own)
        return pb.ReportHeartbeatsResponse(
            unknown_node_ids=[node_id for node_id in request.node_ids if node_id not in reported],
            period_ms=round(self._heartbeats.heartbeats.rules.period_s * 1_000),
        )

    async def GetFleetStats(self, request: pb.GetFleetStatsRequest, context: Any) -> pb.FleetStats:  # noqa: N802
        """Counts of GPUs."""
        return await self._engine.read(stats_message)


def _node(state: MarketState, node_id: str) -> pb.Node:
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
