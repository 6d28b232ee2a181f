"""ClusterService: quotes, deployments, explanations and leases."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from itertools import islice
from typing import Any, TypeVar

from walras.v1 import cluster_service_pb2 as pb
from walras.v1.cluster_service_pb2_grpc import ClusterServiceServicer

from engine.domain.cluster_request import with_request_id
from engine.domain.errors import InvalidInput, Refused, Violation
from engine.domain.limits import MAX_DURATION_S, MAX_GPU_COUNT, MAX_TOTAL_MICRO_USD
from engine.market import commands
from engine.market.changes import LEASE
from engine.market.commands import HoldLimits
from engine.market.decide import made_by
from engine.market.events import AnyEvent, Key, WantedRequest
from engine.market.explain import explain
from engine.market.lease_decision import owned_lease
from engine.market.quote_decision import owned_quote
from engine.market.state import Lease, MarketState
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
from engine.service import cluster_codec as codec
from engine.service.admission import Admission
from engine.service.batched_deploys import BatchedDeploys
from engine.service.deploy_call import check_locks, deploy_command
from engine.service.engine import Engine
from engine.service.fields import (
    Checks,
    bounded,
    first_row,
    idempotency_key,
    page_size,
    page_start,
    page_token,
    resource_id,
)
from engine.service.gathered_deploys import CROWD, Answer, GatheredDeploys
from engine.service.identity import calling_tenant
from engine.service.refusals import Refusals
from engine.service.watch_changes import Watches, watched_from
from engine.trust.quotas import NO_QUOTAS

Changing = commands.ReleaseLease | commands.ExtendLease | commands.ShrinkLease
Placing = commands.DeployCluster | commands.DeployQuote | commands.IssueQuote
Reply = TypeVar("Reply")
QUOTE_TTL_S_DEFAULT, QUOTE_TTL_S_MAX = 60, 3_600
HOLD_LIMITS = HoldLimits()
LONGEST_WATCH_S = 30.0


class ClusterService(ClusterServiceServicer):
    """Thin: parse, submit, await durability, answer."""

    def __init__(
        self,
        engine: Engine,
        holds: HoldLimits = HOLD_LIMITS,
        note_refused: Callable[[WantedRequest], None] = lambda _: None,
        watches: Watches | None = None,
        admission: Admission | None = None,
        crowd: int = CROWD,
    ) -> None:
        """`note_refused`: told of every request that was refused. `admission`: whom items of a batch ask. `crowd`:
        calls under way, from which on deployments are gathered."""
        self._engine, self._holds, self._note_refused = engine, holds, note_refused
        self._refusals = Refusals()
        self._watches = watches or Watches(engine, LONGEST_WATCH_S)
        admission = admission or Admission(NO_QUOTAS, time.monotonic)
        self._batches = BatchedDeploys(engine, admission, self._refusals, note_refused)
        self._gathered = GatheredDeploys(engine, admission.under_way, crowd)

    async def QuoteCluster(self, request: pb.QuoteClusterRequest, context: Any) -> pb.Quote:  # noqa: N802
        """A firm price."""
        tenant_id, checks = calling_tenant(), Checks()
        key = checks.read(idempotency_key, tenant_id, "QuoteCluster", request)
        cluster = checks.read(codec.required_cluster, request)
        ttl_s = checks.read(_ttl_s, request)
        checks.read(check_locks, request)
        checks.done()
        assert cluster is not None and ttl_s is not None

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.Quote:
            return codec.issued_quote_message(state.inventory, state.quotes[made_by(state, events, key)])

        holds, locks = self._holds if request.hold else None, request.lock_extension_price
        command = commands.IssueQuote(tenant_id, cluster, ttl_s, key, holds, locks)
        return await self._explained(command, self._engine.execute(command, NO_STOPWATCH, answer))

    async def GetQuote(self, request: pb.GetQuoteRequest, context: Any) -> pb.Quote:  # noqa: N802
        """One quote of the caller."""
        quote_id, tenant_id = resource_id(request.name, "quotes"), calling_tenant()
        return await self._engine.read(lambda state: self._quote(state, tenant_id, quote_id))

    async def ReleaseQuote(self, request: pb.ReleaseQuoteRequest, context: Any) -> pb.Quote:  # noqa: N802
        """The quote, released. Releasing one that is over changes nothing."""
        tenant_id, checks = calling_tenant(), Checks()
        quote_id = checks.read(resource_id, request.name, "quotes")
        key = checks.read(idempotency_key, tenant_id, "ReleaseQuote", request)
        checks.done()
        assert quote_id is not None

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.Quote:
            return self._quote(state, tenant_id, quote_id)

        command = commands.ReleaseQuote(tenant_id, quote_id, key)
        return await self._engine.execute(command, NO_STOPWATCH, answer)

    def _quote(self, state: MarketState, tenant_id: str, quote_id: str) -> pb.Quote:
        quote = owned_quote(state, tenant_id, quote_id)
        return codec.quote_message(state.inventory, quote, self._engine.now_us())

    async def DeployCluster(self, request: pb.DeployClusterRequest, context: Any) -> pb.Lease:  # noqa: N802
        """A durable lease."""
        stopwatch, tenant_id = Stopwatch(time.perf_counter_ns), calling_tenant()

        def answer(state: MarketState, made: Lease, is_new: bool) -> pb.Lease:
            lease = codec.started_lease_message(state.inventory, made, with_placement=not request.omit_placement)
            if is_new:
                lease.timings.SetInParent()
            return lease

        if (item := self._gathered.item_of(tenant_id, request)) is not None:
            gathered = self._gathered.decided(item, stopwatch, answer)
            lease = await self._explained(item.call.command, gathered)
        else:
            lease = await self._deploy(tenant_id, request, stopwatch, answer)
        stopwatch.lap("commit")
        if lease.HasField("timings"):
            _note_timings(lease, stopwatch)
        return lease

    async def _deploy(
        self, tenant_id: str, request: Any, stopwatch: Stopwatch, answer: Answer[pb.Lease]
    ) -> pb.Lease:
        """What `answer` makes of the lease of a call that is decided by itself."""
        checks = Checks()
        key = checks.read(idempotency_key, tenant_id, "DeployCluster", request)
        command = checks.read(deploy_command, tenant_id, request, key)
        checks.done()
        assert command is not None
        stopwatch.lap("parse")

        def answer_of(state: MarketState, events: list[AnyEvent]) -> pb.Lease:
            return answer(state, state.leases[made_by(state, events, key)], bool(events))

        return await self._explained(command, self._engine.execute(command, stopwatch, answer_of))

    async def DeployClusters(  # noqa: N802
        self, requests: AsyncIterator[pb.DeployClustersRequest], context: Any
    ) -> AsyncIterator[pb.DeployClustersResponse]:
        """A message of durable leases for each message of items."""
        async for request in requests:
            yield await self._batches.answer(request, context.time_remaining)

    async def ExplainCluster(  # noqa: N802
        self, request: pb.ExplainClusterRequest, context: Any
    ) -> pb.Explanation:
        """Why, and what would help."""
        cluster = codec.required_cluster(request)
        book = self._engine.book
        try:
            return await self._engine.read(lambda state: codec.explanation_message(explain(state, cluster, book)))
        except InvalidInput as error:
            raise error.within("cluster.") from None

    async def GetLease(self, request: pb.GetLeaseRequest, context: Any) -> pb.Lease:  # noqa: N802
        """One lease of the caller."""
        lease_id, tenant_id = resource_id(request.name, "leases"), calling_tenant()
        shown = not request.omit_placement

        def answer(state: MarketState) -> pb.Lease:
            lease = owned_lease(state, tenant_id, lease_id)
            return codec.lease_message(state.inventory, lease, with_placement=shown)

        return await self._engine.read(answer)

    async def ListLeaseNodes(  # noqa: N802
        self, request: pb.ListLeaseNodesRequest, context: Any
    ) -> pb.ListLeaseNodesResponse:
        """Where a lease runs, some nodes at a time."""
        tenant_id, checks = calling_tenant(), Checks()
        lease_id = checks.read(resource_id, request.name, "leases")
        size = checks.read(page_size, request.page_size)
        first = checks.read(first_row, request.page_token)
        checks.done()
        assert lease_id is not None and size is not None and first is not None

        def answer(state: MarketState) -> pb.ListLeaseNodesResponse:
            lease = owned_lease(state, tenant_id, lease_id)
            response = codec.lease_nodes_message(state.inventory, lease, first, size)
            if first + size < lease.standing.node_numbers.size:
                response.next_page_token = page_token(str(first + size))
            return response

        return await self._engine.read(answer)

    async def ListLeases(  # noqa: N802
        self, request: pb.ListLeasesRequest, context: Any
    ) -> pb.ListLeasesResponse:
        """The caller's leases, oldest first."""
        tenant_id, checks = calling_tenant(), Checks()
        size = checks.read(page_size, request.page_size)
        after = checks.read(page_start, request.page_token)
        checks.done()
        assert size is not None and after is not None

        def answer(state: MarketState) -> pb.ListLeasesResponse:
            leases = (
                state.leases[lease_id] for lease_id in state.leases_of.get(tenant_id, ()) if lease_id > after
            )
            shown = (lease for lease in leases if request.show_ended or lease.runs)
            page = list(islice(shown, size + 1))
            response = pb.ListLeasesResponse(
                leases=[codec.lease_message(state.inventory, each, with_placement=False) for each in page[:size]],
                state_version=state.version,
            )
            if len(page) > size:
                response.next_page_token = page_token(page[size - 1].lease_id)
            return response

        return await self._engine.read(answer)

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: Any) -> pb.Lease:  # noqa: N802
        """The lease, ended. Releasing an ended lease changes nothing."""
        checks = Checks()
        lease_id, key = _named_lease(checks, "ReleaseLease", request)
        checks.done()
        return await self._change(lease_id, commands.ReleaseLease(calling_tenant(), lease_id, key))

    async def ExtendLease(self, request: pb.ExtendLeaseRequest, context: Any) -> pb.Lease:  # noqa: N802
        """The lease with its later end."""
        checks = Checks()
        lease_id, key = _named_lease(checks, "ExtendLease", request)
        duration_s = checks.read(bounded, request.duration_s, "duration_s", 1, MAX_DURATION_S)
        most = request.max_amount_micro_usd if request.HasField("max_amount_micro_usd") else None
        checks.read(bounded, most or 0, "max_amount_micro_usd", 0, MAX_TOTAL_MICRO_USD)
        checks.done()
        assert duration_s is not None
        command = commands.ExtendLease(calling_tenant(), lease_id, duration_s, most, key)
        return await self._change(lease_id, command)

    async def ShrinkLease(self, request: pb.ShrinkLeaseRequest, context: Any) -> pb.Lease:  # noqa: N802
        """The lease with what it keeps."""
        checks = Checks()
        lease_id, key = _named_lease(checks, "ShrinkLease", request)
        replicas = checks.read(bounded, request.replicas, "replicas", 1, MAX_GPU_COUNT)
        checks.done()
        assert replicas is not None
        return await self._change(lease_id, commands.ShrinkLease(calling_tenant(), lease_id, replicas, key))

    async def _change(self, lease_id: str, command: Changing) -> pb.Lease:
        """Execute a command on a lease; the answer is the lease as it is then."""

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.Lease:
            return codec.lease_message(state.inventory, owned_lease(state, command.tenant_id, lease_id))

        return await self._engine.execute(command, NO_STOPWATCH, answer)

    async def WatchLeases(  # noqa: N802
        self, request: pb.WatchLeasesRequest, context: Any
    ) -> AsyncIterator[pb.WatchLeasesResponse]:
        """Changes of the caller's leases."""

        def message(state: MarketState, version: int, lease_id: str | None) -> pb.WatchLeasesResponse:
            response = pb.WatchLeasesResponse(version=version)
            lease = None if lease_id is None else state.leases.get(lease_id)
            if lease is not None:
                response.lease.CopyFrom(codec.lease_message(state.inventory, lease, with_placement=False))
            return response

        wanted = calling_tenant(), LEASE
        watch = self._watches.run(wanted, watched_from(request), context.time_remaining(), message)
        async with aclosing(watch) as messages:
            async for each in messages:
                yield each

    async def _explained(self, command: Placing, placed: Awaitable[Reply]) -> Reply:
        """What a command that places a cluster is answered; a refusal leaves with its explanation."""
        try:
            return await placed
        except InvalidInput as error:
            raise error.within("cluster.") from None
        except Refused as refusal:
            if isinstance(command, commands.DeployQuote):
                raise
            cluster = command.request
            refused = refusal
            self._note_refused(WantedRequest(command.tenant_id, with_request_id(cluster, "")))
        raise await self._engine.read(lambda state: self._refusals.explained(state, cluster, refused))


def _named_lease(checks: Checks, method: str, request: Any) -> tuple[str, Key | None]:
    """Id of the lease that a call names, and its key."""
    lease_id = checks.read(resource_id, request.name, "leases")
    return lease_id or "", checks.read(idempotency_key, calling_tenant(), method, request)


def _note_timings(lease: pb.Lease, stopwatch: Stopwatch) -> None:
    laps = stopwatch.laps_us
    for stage in ("decision", "audit", "apply", "commit"):
        setattr(lease.timings, f"{stage}_us", laps.get(stage, 0))


def _ttl_s(request: pb.QuoteClusterRequest) -> int:
    if not request.HasField("ttl_s"):
        return QUOTE_TTL_S_DEFAULT
    if not 1 <= request.ttl_s <= QUOTE_TTL_S_MAX:
        raise InvalidInput([Violation("ttl_s", f"must be between 1 and {QUOTE_TTL_S_MAX}, got {request.ttl_s}")])
    return int(request.ttl_s)
