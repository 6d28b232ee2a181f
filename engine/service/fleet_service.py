"""FleetService: bulk loads, nodes, counts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from typing import Any

import polars as pl
from walras.v1 import fleet_service_pb2 as pb
from walras.v1.fleet_service_pb2_grpc import FleetServiceServicer

from engine.domain.errors import InvalidInput, NotFound, Violation
from engine.domain.tables import check_fleet, check_rtt
from engine.domain.tiers import NodeState
from engine.market.commands import LoadFleet, SetNodeState
from engine.market.decide import subject_of
from engine.market.stopwatch import Stopwatch
from engine.service.engine import Engine
from engine.service.fields import (
    body_hash,
    idempotency_key,
    key_of,
    page_size,
    page_start,
    page_token,
    resource_id,
)
from engine.service.fleet_codec import FleetChunks, node_message, stats_message
from engine.service.identity import calling_tenant


class FleetService(FleetServiceServicer):
    """Thin: collect, check, submit, await durability, answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def LoadFleet(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.LoadFleetRequest], context: Any
    ) -> pb.LoadFleetResponse:
        """All chunks as one load."""
        chunks, digest, key_text = FleetChunks(), hashlib.sha256(), ""
        async for chunk in request_iterator:
            key_text = key_text or chunk.idempotency_key
            chunks.add(chunk)
            digest.update(body_hash(chunk))
        key = key_of(calling_tenant(), "LoadFleet", key_text, digest.digest()) if key_text else None
        nodes, rtts = await asyncio.to_thread(_checked, chunks)
        command = LoadFleet(nodes, rtts, key)
        repeated = subject_of(self._engine.state, key)
        events, receipt = self._engine.submit(command, Stopwatch(time.perf_counter_ns))
        await receipt
        load_id = repeated if repeated is not None else events[0].load_id  # type: ignore[union-attr]
        load = self._engine.state.loads[load_id]
        return pb.LoadFleetResponse(
            nodes_added=load.nodes_added,
            nodes_updated=load.nodes_updated,
            rtt_pairs=load.rtt_pairs,
            gpus_registered=load.gpus_registered,
            pools=load.pools,
            fleet_version=load.fleet_version,
        )

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.Node:  # noqa: N802
        """One node."""
        node_id = resource_id(request.name, "nodes")
        inventory = (await self._engine.settled()).inventory
        if node_id not in inventory.number:
            raise NotFound(f"there is no node nodes/{node_id}")
        return node_message(inventory, inventory.number[node_id])

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:  # noqa: N802
        """Nodes by id."""
        size, after = page_size(request.page_size), page_start(request.page_token)
        inventory = (await self._engine.settled()).inventory
        ids = inventory.sorted_ids
        start = bisect_right(ids, after)
        page = ids[start : start + size]
        response = pb.ListNodesResponse(nodes=[node_message(inventory, inventory.number[i]) for i in page])
        if start + size < len(ids):
            response.next_page_token = page_token(page[-1])
        return response

    async def SetNodeState(self, request: pb.SetNodeStateRequest, context: Any) -> pb.Node:  # noqa: N802
        """The node in its new state. Leases on it go on; only READY nodes take new work."""
        node_id = resource_id(request.name, "nodes")
        if request.state not in NodeState.__members__:
            known = ", ".join(NodeState.__members__)
            raise InvalidInput([Violation("state", f"must be one of {known}, got {request.state[:40]!r}")])
        key = idempotency_key(calling_tenant(), "SetNodeState", request)
        command = SetNodeState(node_id, NodeState[request.state], key)
        _, receipt = self._engine.submit(command, Stopwatch(time.perf_counter_ns))
        await receipt
        inventory = self._engine.state.inventory
        return node_message(inventory, inventory.number[node_id])

    async def GetFleetStats(self, request: pb.GetFleetStatsRequest, context: Any) -> pb.FleetStats:  # noqa: N802
        """Counts of GPUs."""
        state = await self._engine.settled()
        stats = stats_message(state.inventory)
        stats.leases_active = state.active
        stats.state_version, stats.fleet_version = state.version, state.fleet_version
        return stats


def _checked(chunks: FleetChunks) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(nodes, measured pairs) of a load; InvalidInput lists what is wrong in either."""
    nodes, rtts = chunks.nodes(), chunks.rtts()
    violations: list[Violation] = []
    if nodes.is_empty() and rtts.is_empty():
        violations.append(Violation("nodes", "the load is empty"))
    for check, frame, name in ((check_fleet, nodes, "nodes"), (check_rtt, rtts, "rtts")):
        try:
            check(frame, name)
        except InvalidInput as error:
            violations.extend(error.violations)
    if violations:
        raise InvalidInput(violations)
    return nodes, rtts
