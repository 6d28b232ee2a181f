"""What an honest tenant gets while others flood: `python -m benchmarks.abuse`

Server and generator are pinned to a core each. First the peak: how many quotes of DEAR clusters a second it
gives to callers that wait for their answers. Then ABUSERS tenants offer three times that, answered or not, while
one honest tenant, in a process of its own on the generator's core, deploys and releases single GPUs at a steady
pace, each call with a deadline. The quotes are dear so that a generator in Python can offer more than is served.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from walras.v1 import cluster_request_pb2, cluster_service_pb2
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub

from benchmarks.credentials import Guarded, bearer, guarded_engine
from engine.trust.principal import Role

GPUS, SERVER_CORE, GENERATOR_CORE = 100_000, 0, 1
PEAK_CALLERS, PEAK_S = 24, 5.0
ABUSERS, OVERLOAD, FLOOD_S, TICK_S = 20, 3.0, 16.0, 0.01
HONEST_S = 10.0
"""Shorter than the flood, and in the middle of it: starting the process takes about three seconds."""
HONEST_PER_S, DEADLINE_S = 20.0, 2.0
IN_FLIGHT_MAX = 2_000
DEPLOY = cluster_service_pb2.DeployClusterRequest(cluster=cluster_request_pb2.ClusterRequest(gpu_count=1))
DEAR = cluster_request_pb2.ClusterRequest(gpu_count=2_000, max_cluster_rtt_ms=20.0)
QUOTE_BYTES = cluster_service_pb2.QuoteClusterRequest(cluster=DEAR).SerializeToString()
QUOTE_PATH = "/walras.v1.ClusterService/QuoteCluster"


class Caller:
    """A tenant's calls over a channel of its own."""

    def __init__(self, target: str, token: str) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        self._channel = grpc.aio.insecure_channel(target, options=options)
        self.stub, self.me = ClusterServiceStub(self._channel), bearer(token)
        self._quote = self._channel.unary_unary(QUOTE_PATH)
        self.outcomes: Counter[str] = Counter()
        self.times_s: list[float] = []

    async def deploy(self) -> None:
        """A lease and its release; outcome and time of the deploy are noted."""
        started = time.perf_counter()
        try:
            lease = await self.stub.DeployCluster(DEPLOY, metadata=self.me, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            self.outcomes[error.code().name] += 1
            return
        self.outcomes["OK"] += 1
        self.times_s.append(time.perf_counter() - started)
        release = cluster_service_pb2.ReleaseLeaseRequest(name=lease.name)
        try:
            await self.stub.ReleaseLease(release, metadata=self.me, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            self.outcomes[f"release {error.code().name}"] += 1

    async def quote(self) -> None:
        """A quote that nobody reads; its outcome is noted."""
        try:
            await self._quote(QUOTE_BYTES, metadata=self.me, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            self.outcomes[error.code().name] += 1
            return
        self.outcomes["OK"] += 1

    async def close(self) -> None:
        """Let go of the channel."""
        await self._channel.close()


def caller_of(engine: Guarded, name: str) -> Caller:
    """A tenant's."""
    return Caller(engine.target, engine.token(Role.TENANT, name))


async def peak_per_s(engine: Guarded) -> float:
    """Calls a second of callers that wait, each with an account of its own."""
    callers = [caller_of(engine, f"peak-{number}") for number in range(PEAK_CALLERS)]
    ends = time.perf_counter() + PEAK_S

    async def work(caller: Caller) -> None:
        while time.perf_counter() < ends:
            await caller.quote()

    await asyncio.gather(*(work(caller) for caller in callers))
    served = sum(caller.outcomes["OK"] for caller in callers)
    await asyncio.gather(*(caller.close() for caller in callers))
    return served / PEAK_S


async def flood(engine: Guarded, offered_per_s: float) -> dict[str, Any]:
    """What becomes of the flood."""
    abusers = [caller_of(engine, f"abuser-{number}") for number in range(ABUSERS)]
    tasks, started, sent = set[asyncio.Task[None]](), time.perf_counter(), 0
    while (now := time.perf_counter() - started) < FLOOD_S:
        while sent < now * offered_per_s and len(tasks) < IN_FLIGHT_MAX:
            task = asyncio.create_task(abusers[sent % ABUSERS].quote())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(TICK_S)
    outcomes = sum((caller.outcomes for caller in abusers), Counter[str]())
    await asyncio.gather(*tasks)
    await asyncio.gather(*(caller.close() for caller in abusers))
    served_per_s = outcomes["OK"] / FLOOD_S
    return {"offered_per_s": sent / FLOOD_S, "abusers_served_per_s": served_per_s, "abusers": dict(outcomes)}


async def honest(target: str, token: str) -> dict[str, Any]:
    """The honest tenant's figures."""
    caller = Caller(target, token)
    healthy = asyncio.create_task(_healthy(target))
    await _steady(caller, time.perf_counter())
    return {
        "honest": dict(caller.outcomes),
        "honest_share": caller.outcomes["OK"] / int(HONEST_PER_S * HONEST_S),
        "honest_p50_ms": 1e3 * statistics.median(caller.times_s),
        "honest_p99_ms": 1e3 * statistics.quantiles(caller.times_s, n=100)[98],
        "deadline_ms": 1e3 * DEADLINE_S,
        "health_stayed_green": await healthy,
    }


async def _steady(caller: Caller, started: float) -> None:
    tasks = []
    for number in range(int(HONEST_PER_S * HONEST_S)):
        await asyncio.sleep(max(0.0, started + number / HONEST_PER_S - time.perf_counter()))
        tasks.append(asyncio.create_task(caller.deploy()))
    await asyncio.gather(*tasks)


async def _healthy(target: str) -> bool:
    serving, ends = True, time.perf_counter() + HONEST_S
    async with grpc.aio.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.perf_counter() < ends:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
            serving &= answer.status == health_pb2.HealthCheckResponse.SERVING
            await asyncio.sleep(0.5)
    return serving


def main() -> None:
    """Print one JSON object; with a target and a token, the honest tenant's part of it."""
    if len(sys.argv) == 3:
        print(json.dumps(asyncio.run(honest(*sys.argv[1:]))))
        return
    with tempfile.TemporaryDirectory() as name, guarded_engine(Path(name), GPUS, SERVER_CORE) as engine:
        os.sched_setaffinity(0, {GENERATOR_CORE})
        peak = asyncio.run(peak_per_s(engine))
        command = [sys.executable, "-m", "benchmarks.abuse", engine.target, engine.token(Role.TENANT, "honest")]
        beside = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        found = {"peak_per_s": peak, **asyncio.run(flood(engine, OVERLOAD * peak))}
        said, _ = beside.communicate(timeout=120)
    print(json.dumps(found | json.loads(said), indent=1))


if __name__ == "__main__":
    main()
