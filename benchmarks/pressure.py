"""Many clients at once, from this process: a closed loop, each waits for its answer (flood.py has the open one).

Requests are bytes, replies stay bytes: the clients share two cores with the server, so they do as little as they
can. A call that is told to come back later does so when it was told to.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from walras.v1 import cluster_service_pb2 as pb

from benchmarks.calls import TENANT
from benchmarks.statistics import p50, p99
from engine.cli.cluster_message import cluster_message
from engine.cli.connection import CHANNEL_OPTIONS, Connection
from engine.domain.cluster_request import ClusterRequest

DEPLOY = "/walras.v1.ClusterService/DeployCluster"
COME_BACK = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
UNTOLD_RETRY_S = 0.1
LATE = "LATE"
"""An answer that came, but after the deadline: this process was too busy to give up in time."""
CALLS_PER_CHANNEL = 64
"""Below the 100 streams that one connection carries at once."""


@dataclass(slots=True)
class Tally:
    """What came of the calls of one run. `at_s` of answers: since its start."""

    latency_ms: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers within their deadline, a second."""
        return len(self.latency_ms) / self.seconds

    @property
    def missed_share(self) -> float:
        """Of the calls that nobody told to come back, those without an answer in time."""
        told = sum(self.failed[code.name] for code in COME_BACK)
        accepted = max(self.sent - told, 1)
        return (accepted - len(self.latency_ms)) / accepted

    def figures(self) -> dict[str, float]:
        """Rate, percentiles, and what failed, by status."""
        found = {"per_s": self.per_s, "sent_per_s": self.sent / self.seconds}
        if self.latency_ms:
            found |= {"ms_p50": p50(self.latency_ms), "ms_p99": p99(self.latency_ms)}
        return found | {f"failed.{code.lower()}": float(count) for code, count in sorted(self.failed.items())}


@dataclass(frozen=True, slots=True)
class Pressure:
    """Whom to call, with what, and how long to wait for an answer."""

    target: str
    requests: Sequence[ClusterRequest]
    deadline_s: float
    method: str = DEPLOY

    def closed(self, clients: int, seconds: float) -> Tally:
        """So many clients, each with one call at a time."""
        return asyncio.run(self._run(clients, seconds))

    async def _run(self, clients: int, seconds: float) -> Tally:
        count = -(-clients // CALLS_PER_CHANNEL)
        separate = [("grpc.use_local_subchannel_pool", 1), *CHANNEL_OPTIONS]
        channels = [grpc.aio.insecure_channel(self.target, options=separate) for _ in range(max(count, 1))]
        bodies = [
            pb.DeployClusterRequest(cluster=cluster_message(each)).SerializeToString() for each in self.requests
        ]
        caller = _Caller(self, channels, bodies)
        try:
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
            caller.start()
            await _closed(caller, clients, seconds)
            caller.tally.seconds = time.perf_counter() - caller.started
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))
        return caller.tally


class _Caller:
    """Sends single calls and notes what becomes of them."""

    def __init__(self, pressure: Pressure, channels: list[grpc.aio.Channel], bodies: list[bytes]) -> None:
        self._methods = [channel.unary_unary(pressure.method) for channel in channels]
        self._metadata = Connection(pressure.target, TENANT).metadata
        self._bodies, self._deadline_s = bodies, pressure.deadline_s
        self.tally, self.started = Tally(), 0.0

    def start(self) -> None:
        """The clock of the run starts."""
        self.started = time.perf_counter()

    async def call(self, number: int) -> float:
        """One call; seconds to wait before the next one."""
        tally = self.tally
        tally.sent += 1
        body = self._bodies[number % len(self._bodies)]
        body += pb.DeployClusterRequest(idempotency_key=uuid.uuid4().hex).SerializeToString()
        began = time.perf_counter()
        try:
            method = self._methods[number % len(self._methods)]
            await method(body, metadata=self._metadata, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            tally.failed[error.code().name] += 1
            return retry_after_s(error) if error.code() in COME_BACK else 0.0
        now = time.perf_counter()
        if now - began > self._deadline_s:
            tally.failed[LATE] += 1
            return 0.0
        tally.latency_ms.append((now - began) * 1e3)
        tally.at_s.append(now - self.started)
        return 0.0


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    """What the server said, or UNTOLD_RETRY_S."""
    status, hint = rpc_status.from_call(error), error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(hint):
            return hint.retry_delay.seconds + hint.retry_delay.nanos / 1e9
    return UNTOLD_RETRY_S


async def _closed(caller: _Caller, clients: int, seconds: float) -> None:
    ends = caller.started + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < ends:
            wait_s = await caller.call(number)
            if wait_s:
                await asyncio.sleep(min(wait_s, max(ends - time.perf_counter(), 0.0)))

    await asyncio.gather(*(client(number) for number in range(clients)))
