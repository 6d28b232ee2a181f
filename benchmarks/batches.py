"""Batched deploys a second: some streams of DeployClusters at once, each with one message under way.

Every item has a key of its own, finds taken what the items before it took, is audited and booked, and counts once
its lease is durable and its answer is here. The items of a message are alike, of one GPU each, so that the fleet
has room for them; messages take the models in turn, and a stream ends when the fleet has no room left. `mixed`
messages have items of all the models, one after the other.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import grpc
from walras.v1 import cluster_service_pb2 as pb

from benchmarks.calls import TENANT
from benchmarks.statistics import p50, p99
from engine.cli.cluster_message import cluster_message
from engine.cli.connection import CHANNEL_OPTIONS, Connection
from engine.domain.cluster_request import ClusterRequest

METHOD = "/walras.v1.ClusterService/DeployClusters"
STREAM_S = 60.0
FULL = ("NO_CAPACITY", "GPU_MODELS")
"""The whole fleet is taken, or all nodes of a model."""


@dataclass(slots=True)
class BatchTally:
    """What came of the messages of one run."""

    placements: int = 0
    failed: int = 0
    message_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """Placements a second, percentiles of a message, items that failed."""
        return {
            "placements_per_s": self.placements / self.seconds,
            "message_ms_p50": p50(self.message_ms),
            "message_ms_p99": p99(self.message_ms),
            "failed": float(self.failed),
        }


def batched(
    target: str,
    requests: Sequence[ClusterRequest],
    streams: int,
    items: int,
    seconds: float,
    *,
    mixed: bool = False,
) -> BatchTally:
    """So many streams, each with one message of so many items under way, for so long."""
    return asyncio.run(_run(target, requests, streams, items, seconds, mixed))


async def _run(
    target: str, requests: Sequence[ClusterRequest], streams: int, items: int, seconds: float, mixed: bool
) -> BatchTally:
    tally = BatchTally()
    async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        await channel.channel_ready()
        started_s = time.perf_counter()
        shared = [pb.ClusterDeployment(cluster=cluster_message(request)) for request in requests]
        turns = [shared[n % len(shared) :] + shared[: n % len(shared)] for n in range(streams)]
        make = _mixed if mixed else _alike
        ends_s = started_s + seconds
        await asyncio.gather(*(_stream(channel, make(turn, items), ends_s, tally) for turn in turns))
        tally.seconds = time.perf_counter() - started_s
    return tally


def _alike(turn: Sequence[pb.ClusterDeployment], items: int) -> Iterator[pb.DeployClustersRequest]:
    """Messages of alike items."""
    for shared in cycle(turn):
        series = pb.ClusterDeploymentSeries(deployment=shared, idempotency_keys=_keys(items))
        yield pb.DeployClustersRequest(series=series)


def _mixed(turn: Sequence[pb.ClusterDeployment], items: int) -> Iterator[pb.DeployClustersRequest]:
    """Messages of all kinds of items."""
    while True:
        kinds = zip(_keys(items), cycle(turn))
        each = [pb.ClusterDeployment(cluster=shared.cluster, idempotency_key=key) for key, shared in kinds]
        yield pb.DeployClustersRequest(items=each)


def _keys(items: int) -> list[str]:
    run = uuid.uuid4().hex
    return [f"{run}-{place}" for place in range(items)]


async def _stream(
    channel: grpc.aio.Channel, messages: Iterator[pb.DeployClustersRequest], ends_s: float, tally: BatchTally
) -> None:
    method = channel.stream_stream(
        METHOD,
        request_serializer=pb.DeployClustersRequest.SerializeToString,
        response_deserializer=pb.DeployClustersResponse.FromString,
    )
    call = method(metadata=Connection("", TENANT).metadata, timeout=STREAM_S)
    full = False
    while not full and time.perf_counter() < ends_s:
        began_s = time.perf_counter()
        await call.write(next(messages))
        answer = await call.read()
        tally.message_ms.append(1e3 * (time.perf_counter() - began_s))
        full = any(error.reason in FULL for error in answer.errors)
        tally.failed += sum(error.reason not in FULL for error in answer.errors)
        tally.placements += len(answer.lease_ids) - len(answer.errors)
    await call.done_writing()
    await call.read()
