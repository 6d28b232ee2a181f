"""The demo's queue: a thousand requests planned together by the running engine, and the plan applied."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from walras.v1 import plan_service_pb2, plan_service_pb2_grpc

from engine.cli.amounts import usd
from engine.cli.cluster_message import checked_request, cluster_message
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.plan_run import gap_text
from engine.cli.plan_screen import watching
from engine.cli.request_file import NOT_THE_CALLERS
from engine.cli.screen import remarks
from engine.cli.text_table import pair_table
from engine.datasets.synthetic import synthetic_requests
from solvers.planning.plan import OnProgress, Progress
from solvers.planning.warmup import warm_up

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

REQUESTS = 1_000
LOAD = 0.5
"""GPUs that the queue asks for, as a share of the fleet's free GPUs."""
REQUESTS_PER_MESSAGE = 500
WORK_LIMIT = 6
TIME_LIMIT_S = 15.0


@dataclass(frozen=True, slots=True)
class PlannedQueue:
    """What the engine says of the plan, and what became of it. `plan_s`: RunPlan as this client saw it."""

    report: plan_service_pb2.PlanReport
    applied: plan_service_pb2.ApplyPlanResponse
    plan_s: float
    apply_s: float


def plan_queue(console: Console, connection: Connection, fleet: pl.DataFrame, seed: int) -> PlannedQueue:
    """Draw the queue, have it planned, apply the plan and show what came of it."""
    chunks = list(_chunks(fleet, seed))
    with remarks().status("compiling the planner's kernels, once on this machine: about a minute"):
        warm_up()
    with connection.channel() as channel:
        service = plan_service_pb2_grpc.PlanServiceStub(channel)
        started_s = time.perf_counter()
        name = _planned(service, connection, chunks)
        planned_s = time.perf_counter()
        with remarks().status("committing the leases"):
            key = uuid.uuid4().hex
            call = plan_service_pb2.ApplyPlanRequest(name=name, idempotency_key=key)
            applied = service.ApplyPlan(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
        applied_s = time.perf_counter()
        page = plan_service_pb2.GetPlanRequest(name=name, page_size=1)
        report = service.GetPlan(page, timeout=CALL_TIMEOUT_S, metadata=connection.metadata).report
    queue = PlannedQueue(report, applied, planned_s - started_s, applied_s - planned_s)
    console.print(pair_table(f"{report.requests:,} requests, planned together", _rows(queue)))
    return queue


def _chunks(fleet: pl.DataFrame, seed: int) -> Iterator[plan_service_pb2.RunPlanRequest]:
    """The queue as the messages of one call, after one with the options."""
    rows = synthetic_requests(fleet, REQUESTS, seed, LOAD).drop(list(NOT_THE_CALLERS)).to_dicts()
    messages = [cluster_message(checked_request(row)) for row in rows]
    options = plan_service_pb2.PlanOptions(work_limit=WORK_LIMIT, time_limit_s=TIME_LIMIT_S, seed=seed)
    yield plan_service_pb2.RunPlanRequest(options=options)
    for first in range(0, len(messages), REQUESTS_PER_MESSAGE):
        yield plan_service_pb2.RunPlanRequest(requests=messages[first : first + REQUESTS_PER_MESSAGE])


def _planned(service: Any, connection: Connection, chunks: list[plan_service_pb2.RunPlanRequest]) -> str:
    """The plan's name, once the search is over."""
    with watching(remarks(), TIME_LIMIT_S) as listener:
        steps = service.RunPlan(iter(chunks), timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
        for step in steps:
            _tell(listener, step)
    return str(step.name)


def _tell(listener: OnProgress | None, step: plan_service_pb2.RunPlanResponse) -> None:
    if listener is not None:
        welfare, bound = (
            getattr(step, name) if step.HasField(name) else None
            for name in ("welfare_micro_usd_per_hour", "bound_micro_usd_per_hour")
        )
        listener(Progress(step.phase, step.elapsed_ms / 1_000, welfare, bound))


def _rows(queue: PlannedQueue) -> list[tuple[str, str]]:
    report, applied = queue.report, queue.applied
    return [
        ("status", report.status),
        ("requests served", f"{report.requests_served:,} of {report.requests:,}"),
        ("GPUs placed", f"{report.gpus_placed:,}"),
        ("welfare", f"{usd(report.welfare_micro_usd_per_hour)} an hour"),
        ("proven bound", f"{usd(report.bound_micro_usd_per_hour)} an hour"),
        ("gap", gap_text(report.gap if report.HasField("gap") else None)),
        ("leases committed", f"{applied.leases_started:,}, {applied.changes_refused:,} changes no longer fitted"),
        ("time", f"planned in {queue.plan_s:.2f} s, applied in {queue.apply_s:.2f} s"),
    ]


def queue_line(queue: PlannedQueue) -> str:
    """The queue in one line."""
    report = queue.report
    return (
        f"{report.requests:,} more requests planned together in {queue.plan_s:.1f} s: "
        f"{report.requests_served:,} served on {report.gpus_placed:,} GPUs"
    )


def proof_line(queue: PlannedQueue) -> str:
    """How good the plan is, in one line."""
    report = queue.report
    gap = gap_text(report.gap if report.HasField("gap") else None)
    return (
        f"worth {usd(report.welfare_micro_usd_per_hour)} an hour, proven within {gap} of the best plan; "
        f"{queue.applied.leases_started:,} leases committed in {queue.apply_s:.1f} s"
    )
