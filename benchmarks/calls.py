"""The client: timed deploys and floor calls over one channel, from this process."""

from __future__ import annotations

import time
import uuid
from types import TracebackType
from typing import Any, Self

import grpc
from walras.v1 import cluster_service_pb2 as pb
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub

from benchmarks.floor import FLOOR_SERVICE
from engine.cli.cluster_message import cluster_message
from engine.cli.connection import CALL_TIMEOUT_S, CHANNEL_OPTIONS, Connection
from engine.domain.cluster_request import ClusterRequest

TENANT = "benchmark"
STAGES = ("decision", "audit", "apply", "commit")


class Client:
    """A caller of one server."""

    def __init__(self, target: str) -> None:
        self._metadata = Connection(target, TENANT).metadata
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._engine = ClusterServiceStub(self._channel)
        self._floor = self._method("DeployCluster", pb.DeployClusterRequest)
        self._remember = self._method("Remember", pb.GetLeaseRequest)

    def deploy(self, request: ClusterRequest) -> tuple[pb.Lease, int]:
        """(the lease, nanoseconds of the call)."""
        return self._timed(self._engine.DeployCluster, request)

    def floor(self, request: ClusterRequest) -> tuple[pb.Lease, int]:
        """(the remembered lease, nanoseconds of the call)."""
        return self._timed(self._floor, request)

    def remember(self, lease: pb.Lease) -> None:
        """Make the lease, which must have just been started, what the floor repeats."""
        self._remember(pb.GetLeaseRequest(name=lease.name), metadata=self._metadata, timeout=CALL_TIMEOUT_S)

    def release(self, lease: pb.Lease) -> None:
        """End the lease."""
        call = pb.ReleaseLeaseRequest(name=lease.name)
        self._engine.ReleaseLease(call, metadata=self._metadata, timeout=CALL_TIMEOUT_S)

    def _timed(self, method: Any, request: ClusterRequest) -> tuple[pb.Lease, int]:
        call = pb.DeployClusterRequest(cluster=cluster_message(request), idempotency_key=uuid.uuid4().hex)
        started = time.perf_counter_ns()
        lease = method(call, metadata=self._metadata, timeout=CALL_TIMEOUT_S)
        return lease, time.perf_counter_ns() - started

    def _method(self, name: str, request: Any) -> Any:
        return self._channel.unary_unary(
            f"/{FLOOR_SERVICE}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=pb.Lease.FromString,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
