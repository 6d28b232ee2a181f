"""PlanService: joint plans, made beside the event loop and applied through it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

from walras.v1 import plan_service_pb2 as pb
from walras.v1.plan_service_pb2_grpc import PlanServiceServicer

from engine.domain.errors import InvalidInput, NotFound, Violation
from engine.market.commands import ApplyPlan
from engine.market.decide import made_by
from engine.market.events import AnyEvent
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.planning.queue_plan import QueueJob, QueuePlan, Solver
from engine.planning.snapshot import Snapshot, take
from engine.service import plan_codec as codec
from engine.service.engine import Engine
from engine.service.fields import Checks, first_row, idempotency_key, page_size, page_token, resource_id
from engine.service.identity import calling_tenant
from engine.service.plan_runner import PlanRunner
from engine.service.plan_store import KeptPlan, PlanStore
from engine.service.planner_turns import PlannerTurns
from solvers.planning.plan import Progress

SEARCH_SHARE = 0.8
"""Of the longest call, what a search may take; the rest is for reading the queue and describing the plan."""
LEASES_MAX = 10_000


class PlanService(PlanServiceServicer):
    """Thin: collect, check, plan in a thread, keep; submit, await durability, answer."""

    def __init__(self, engine: Engine, deadline_s_max: float, solver: Solver) -> None:
        self._engine, self._solver = engine, solver
        self._time_limit_s_max = SEARCH_SHARE * deadline_s_max
        self._runner, self._store = PlanRunner[QueuePlan](), PlanStore(engine.now_us)
        self._turns = PlannerTurns(time.monotonic)

    async def RunPlan(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.RunPlanRequest], context: Any
    ) -> AsyncIterator[pb.RunPlanResponse]:
        """Progress, then the plan's name."""
        tenant_id, started_s = calling_tenant(), time.perf_counter()
        queue = codec.QueueChunks()
        async for chunk in request_iterator:
            queue.add(chunk)
        job, messages = await self._job(tenant_id, queue)
        with self._turns.turn(tenant_id):
            async with aclosing(self._runner.run(partial(job.run, self._solver))) as steps:
                async for step in steps:
                    if isinstance(step, Progress):
                        yield codec.progress_message(step)
                    else:
                        wall_s = time.perf_counter() - started_s
                        last_plan_id = queue.last_plan_id
                        yield codec.done_message(
                            self._store.add(tenant_id, step, job.rules, job.limits, wall_s, last_plan_id, messages)
                        )

    async def GetPlan(self, request: pb.GetPlanRequest, context: Any) -> pb.Plan:  # noqa: N802
        """A page of a plan of the caller."""
        checks = Checks()
        plan_id = checks.read(resource_id, request.name, "plans")
        size = checks.read(page_size, request.page_size)
        start = checks.read(first_row, request.page_token)
        checks.done()
        assert plan_id is not None and size is not None and start is not None
        kept = self._kept(calling_tenant(), plan_id)
        page = codec.Page(start, size)
        message = await self._engine.read(lambda state: codec.plan_message(kept, state.inventory, page))
        if start + size < codec.row_count(kept):
            message.next_page_token = page_token(str(start + size))
        return message

    async def ApplyPlan(self, request: pb.ApplyPlanRequest, context: Any) -> pb.ApplyPlanResponse:  # noqa: N802
        """What became of each change."""
        tenant_id, checks = calling_tenant(), Checks()
        plan_id = checks.read(resource_id, request.name, "plans")
        key = checks.read(idempotency_key, tenant_id, "ApplyPlan", request)
        checks.done()
        assert plan_id is not None

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.ApplyPlanResponse:
            applied = made_by(state, events, key)
            return codec.applied_message(applied, state.applied[applied])

        kept = self._store.find(tenant_id, plan_id)
        command = ApplyPlan(tenant_id, plan_id, None if kept is None else kept.made.outcome.changes, key)
        return await self._engine.execute(command, NO_STOPWATCH, answer)

    def _kept(self, tenant_id: str, plan_id: str) -> KeptPlan:
        """A plan of the tenant that is still there; else NotFound."""
        kept = self._store.find(tenant_id, plan_id)
        if kept is None:
            raise NotFound(f"there is no plan plans/{plan_id}")
        return kept

    async def _job(self, tenant_id: str, queue: codec.QueueChunks) -> tuple[QueueJob, codec.KnownMessages]:
        """The checked queue and its snapshot, once that is durable; and the queue's messages."""
        checks = Checks()
        checks.read(queue.check_options)
        options = checks.read(codec.options_from, queue.options, self._time_limit_s_max)
        last = self._store.find(tenant_id, queue.last_plan_id)
        known = {} if last is None else last.messages
        messages = await checks.read_in_thread(codec.requests_from, queue.requests, known)
        checks.done()
        assert options is not None and messages is not None
        rules, limits = options
        made = self._kept(tenant_id, queue.last_plan_id).made if queue.last_plan_id else None
        snapshot = await self._engine.read(partial(take, tenant_id=tenant_id, movable_leases=rules.movable_leases))
        _check_leases(snapshot)
        requests = list(messages.values())
        return QueueJob(snapshot, requests, rules, limits, self._engine.book.models(), made), messages


def _check_leases(snapshot: Snapshot) -> None:
    if len(snapshot.leases) > LEASES_MAX:
        problem = f"this tenant has {len(snapshot.leases):,} leases, at most {LEASES_MAX:,} can be planned anew"
        raise InvalidInput([Violation("options.movable_leases", problem)])
