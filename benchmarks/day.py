"""Hours of the real trace, sixty times as fast, against a running server.

The trace's jobs come when they came and last as long as they lasted, both divided by SPEED; what already ran when
the hours begin is deployed before them. Sizes are scaled to DAY_LOAD (`engine.datasets.load`): at the trace's own
sizes this fleet would stay empty. A refused job does not come back.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import polars as pl
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from walras.v1 import cluster_service_pb2 as pb
from walras.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub

from benchmarks.calls import TENANT
from benchmarks.deploy import Results
from benchmarks.processes import engine_process
from benchmarks.registry import DAY_BEGINS_H, DAY_GPUS, DAY_LOAD, DAY_REQUESTS, SEED, SPEED, Effort
from benchmarks.statistics import p50, p99
from engine.cli.cluster_message import cluster_message
from engine.cli.connection import CALL_TIMEOUT_S, CHANNEL_OPTIONS, Connection
from engine.cli.fleet_load import Inventory, load_inventory
from engine.datasets.real import real_requests, real_world
from engine.domain.cluster_request import REQUEST_FIELDS, parse_cluster_request

US_PER_S, S_PER_H = 1e6, 3_600
PAGE_SIZE = 1_000
SAMPLE_S = 1.0


class Job(NamedTuple):
    """One request. `due_s`: when it comes, in seconds of the replay; before 0: it already ran."""

    due_s: float
    message: Any


class Day(NamedTuple):
    """What came of the jobs."""

    latency_ms: list[float]
    refused: Counter[str]
    paid_micro_usd_per_gpu_hour: list[float]
    utilisation: list[float]


def measure_day(hours: float, effort: Effort, data_dir: Path, speed: float = SPEED) -> Results:
    """Replay so many hours; effort's largest fleet is the most."""
    world = real_world(data_dir, min(DAY_GPUS, effort.fleets[-1]), SEED)
    queue = real_requests(data_dir, world.fleet, DAY_REQUESTS, SEED, DAY_LOAD)
    jobs = jobs_of(queue, hours, speed)
    with (
        tempfile.TemporaryDirectory(prefix="walras-bench-") as place,
        engine_process(Path(place) / "data") as child,
    ):
        connection = Connection(child.target, TENANT)
        load_inventory(connection, Inventory(world.fleet, world.rtt))
        day = asyncio.run(_replayed(connection, jobs))
        with connection.channel() as channel:
            stranded = stranded_share(channel, connection)
    return {
        f"day.{hours:g}h.{name}": value for name, value in (figures(day) | {"stranded_share": stranded}).items()
    }


def jobs_of(queue: pl.DataFrame, hours: float, speed: float = SPEED) -> list[Job]:
    """The jobs of some hours, and before them those that still run when the hours begin; in order of time."""
    begins_us = int(queue["submitted_at_us"].min()) + DAY_BEGINS_H * S_PER_H * US_PER_S  # type: ignore[arg-type]
    ends_us = begins_us + hours * S_PER_H * US_PER_S
    jobs = []
    for row in queue.sort("submitted_at_us").iter_rows(named=True):
        from_us, until_us = row["submitted_at_us"], row["submitted_at_us"] + row["duration_s"] * US_PER_S
        if until_us <= begins_us or from_us >= ends_us:
            continue
        fields = {name: row[name] for name in REQUEST_FIELDS if row.get(name) is not None}
        left_s = (until_us - max(from_us, begins_us)) / US_PER_S
        request = parse_cluster_request(fields | {"duration_s": max(round(left_s / speed), 1)})
        due_s = (from_us - begins_us) / US_PER_S / speed
        jobs.append(Job(due_s, cluster_message(request)))
    return jobs


def figures(day: Day) -> Results:
    """Percentiles, shares of refusals by reason, mean price and utilisation."""
    asked = len(day.latency_ms)
    found = {
        "jobs": float(asked),
        "call_ms_p50": p50(day.latency_ms),
        "call_ms_p99": p99(day.latency_ms),
        "refused_share": sum(day.refused.values()) / asked,
        "utilisation_mean": sum(day.utilisation) / max(len(day.utilisation), 1),
        "price_usd_per_gpu_hour_mean": sum(day.paid_micro_usd_per_gpu_hour)
        / max(len(day.paid_micro_usd_per_gpu_hour), 1)
        / 1e6,
    }
    return found | {f"refused.{reason.lower()}": count / asked for reason, count in sorted(day.refused.items())}


def stranded_share(channel: grpc.Channel, connection: Connection) -> float:
    """Of the free GPUs of READY nodes, those on nodes that are partly used."""
    service, token, free, stranded = fleet_service_pb2_grpc.FleetServiceStub(channel), "", 0, 0
    while True:
        call = fleet_service_pb2.ListNodesRequest(page_size=PAGE_SIZE, page_token=token)
        page = service.ListNodes(call, metadata=connection.metadata, timeout=CALL_TIMEOUT_S)
        for node in page.nodes:
            if node.state == "READY":
                free += node.gpu_free
                stranded += node.gpu_free if node.gpu_free < node.gpu_count else 0
        if not (token := page.next_page_token):
            return stranded / max(free, 1)


async def _replayed(connection: Connection, jobs: Sequence[Job]) -> Day:
    day = Day([], Counter(), [], [])
    async with grpc.aio.insecure_channel(connection.target, options=CHANNEL_OPTIONS) as channel:
        clusters, fleet = ClusterServiceStub(channel), fleet_service_pb2_grpc.FleetServiceStub(channel)
        before = Day([], Counter(), [], [])
        for job in jobs:
            if job.due_s < 0:
                await _deploy(clusters, connection, job, before)
        started_s = time.perf_counter()
        sampling = asyncio.create_task(_sample(fleet, connection, day))
        tasks = []
        for job in jobs:
            if job.due_s >= 0:
                await asyncio.sleep(max(started_s + job.due_s - time.perf_counter(), 0.0))
                tasks.append(asyncio.create_task(_deploy(clusters, connection, job, day)))
        await asyncio.gather(*tasks)
        sampling.cancel()
    return day


async def _deploy(clusters: Any, connection: Connection, job: Job, day: Day) -> None:
    began = time.perf_counter()
    try:
        call = pb.DeployClusterRequest(cluster=job.message)
        lease = await clusters.DeployCluster(call, metadata=connection.metadata, timeout=CALL_TIMEOUT_S)
        day.paid_micro_usd_per_gpu_hour.append(lease.price.rate_micro_usd_per_hour / job.message.gpu_count)
    except grpc.aio.AioRpcError as error:
        day.refused[_reason(error)] += 1
    day.latency_ms.append((time.perf_counter() - began) * 1e3)


def _reason(error: grpc.aio.AioRpcError) -> str:
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return str(info.reason)
    return str(error.code().name)


async def _sample(fleet: Any, connection: Connection, day: Day) -> None:
    while True:
        stats = await fleet.GetFleetStats(
            fleet_service_pb2.GetFleetStatsRequest(), metadata=connection.metadata, timeout=CALL_TIMEOUT_S
        )
        day.utilisation.append(stats.gpus_leased / max(stats.gpus_leased + stats.gpus_free, 1))
        await asyncio.sleep(SAMPLE_S)
