"""ClusterService: quotes, deployments, explanations and leases."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from walras.v1 import cluster_service_pb2 as pb
from walras.v1.cluster_service_pb2_grpc import ClusterServiceServicer

from engine.domain.errors import InvalidInput, Refused, Violation
from engine.market import commands
from engine.market.decide import owned_lease, subject_of
from engine.market.events import Key
from engine.market.explain import explain, explain_refusal
from engine.market.state import ACTIVE, Lease, MarketState
from engine.market.stopwatch import Stopwatch
from engine.service import cluster_codec as codec
from engine.service.calls import RefusedWithDetails
from engine.service.engine import Engine
from engine.service.fields import idempotency_key, page_size, page_start, page_token, resource_id
from engine.service.identity import calling_tenant

QUOTE_TTL_S_DEFAULT, QUOTE_TTL_S_MAX = 60, 3_600


class ClusterService(ClusterServiceServicer):
    """Thin: parse, submit, await durability, answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def QuoteCluster(self, request: pb.QuoteClusterRequest, context: Any) -> pb.Quote:  # noqa: N802
        """A firm price."""
        tenant_id = calling_tenant()
        key = idempotency_key(tenant_id, "QuoteCluster", request)
        command = commands.IssueQuote(tenant_id, codec.required_cluster(request), _ttl_s(request), key)
        quote_id = await self._submit(command, key, Stopwatch(time.perf_counter_ns))
        return codec.quote_message(self._state.inventory, self._state.quotes[quote_id])

    async def DeployCluster(self, request: pb.DeployClusterRequest, context: Any) -> pb.Lease:  # noqa: N802
        """A durable lease."""
        stopwatch = Stopwatch(time.perf_counter_ns)
        tenant_id = calling_tenant()
        key = idempotency_key(tenant_id, "DeployCluster", request)
        repeated = subject_of(self._state, key)
        command = _deploy_command(tenant_id, request, key)
        stopwatch.lap("parse")
        lease_id = await self._submit(command, key, stopwatch)
        lease = self._state.leases[lease_id]
        message = codec.started_lease_message(self._state.inventory, lease)
        if repeated is None:
            laps = stopwatch.laps_us
            message.timings.CopyFrom(
                pb.Timings(
                    decision_us=laps.get("decision", 0),
                    audit_us=laps.get("audit", 0),
                    apply_us=laps.get("apply", 0),
                    commit_us=laps.get("commit", 0),
                )
            )
        return message

    async def ExplainCluster(  # noqa: N802
        self, request: pb.ExplainClusterRequest, context: Any
    ) -> pb.Explanation:
        """Why, and what would help."""
        cluster = codec.required_cluster(request)
        state = await self._engine.settled()
        try:
            explanation = explain(state, cluster, self._engine.book)
        except InvalidInput as error:
            raise error.within("cluster.") from None
        return codec.explanation_message(state.inventory, explanation)

    async def GetLease(self, request: pb.GetLeaseRequest, context: Any) -> pb.Lease:  # noqa: N802
        """One lease of the caller."""
        lease_id = resource_id(request.name, "leases")
        state = await self._engine.settled()
        return codec.lease_message(state.inventory, owned_lease(state, calling_tenant(), lease_id))

    async def ListLeases(  # noqa: N802
        self, request: pb.ListLeasesRequest, context: Any
    ) -> pb.ListLeasesResponse:
        """The caller's leases, oldest first."""
        size, after = page_size(request.page_size), page_start(request.page_token)
        state = await self._engine.settled()
        shown = (
            lease
            for lease in _leases_after(state, calling_tenant(), after)
            if request.show_ended or lease.state == ACTIVE
        )
        page = list(islice(shown, size + 1))
        response = pb.ListLeasesResponse(
            leases=[codec.lease_message(state.inventory, lease, with_placement=False) for lease in page[:size]]
        )
        if len(page) > size:
            response.next_page_token = page_token(page[size - 1].lease_id)
        return response

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: Any) -> pb.Lease:  # noqa: N802
        """The lease, ended. Releasing an ended lease changes nothing."""
        tenant_id = calling_tenant()
        lease_id = resource_id(request.name, "leases")
        key = idempotency_key(tenant_id, "ReleaseLease", request)
        stopwatch = Stopwatch(time.perf_counter_ns)
        _, receipt = self._engine.submit(commands.ReleaseLease(tenant_id, lease_id, key), stopwatch)
        await receipt
        return codec.lease_message(self._state.inventory, owned_lease(self._state, tenant_id, lease_id))

    @property
    def _state(self) -> MarketState:
        return self._engine.state

    async def _submit(
        self,
        command: commands.DeployCluster | commands.DeployQuote | commands.IssueQuote,
        key: Key | None,
        stopwatch: Stopwatch,
    ) -> str:
        """Id of the quote or lease that the command, or an earlier one with its key, made; durable."""
        try:
            events, receipt = self._engine.submit(command, stopwatch)
        except InvalidInput as error:
            raise error.within("cluster.") from None
        except Refused as refusal:
            raise self._explained(command, refusal) from None
        await receipt
        stopwatch.lap("commit")
        for event in events:
            return str(getattr(event, "lease_id", "") or getattr(event, "quote_id", ""))
        return subject_of(self._state, key) or ""

    def _explained(self, command: Any, refusal: Refused) -> Exception:
        if isinstance(command, commands.DeployQuote):
            return refusal
        explanation = explain_refusal(self._state, command.request, refusal)
        refused = Refused(explanation.reason, explanation.detail, **refusal.metadata)
        return RefusedWithDetails(refused, codec.explanation_message(self._state.inventory, explanation))


def _ttl_s(request: pb.QuoteClusterRequest) -> int:
    if not request.HasField("ttl_s"):
        return QUOTE_TTL_S_DEFAULT
    if not 1 <= request.ttl_s <= QUOTE_TTL_S_MAX:
        raise InvalidInput([Violation("ttl_s", f"must be between 1 and {QUOTE_TTL_S_MAX}, got {request.ttl_s}")])
    return int(request.ttl_s)


def _deploy_command(
    tenant_id: str, request: pb.DeployClusterRequest, key: Key | None
) -> commands.DeployCluster | commands.DeployQuote:
    if request.HasField("cluster") == bool(request.quote):
        raise InvalidInput([Violation("cluster", "give exactly one of cluster and quote")])
    if request.quote:
        return commands.DeployQuote(tenant_id, resource_id(request.quote, "quotes", "quote"), key)
    return commands.DeployCluster(tenant_id, codec.request_from(request.cluster), key)


def _leases_after(state: MarketState, tenant_id: str, after: str) -> Any:
    for lease_id in state.leases_of.get(tenant_id, ()):
        if lease_id > after:
            lease: Lease = state.leases[lease_id]
            yield lease
