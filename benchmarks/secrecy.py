"""Does the time of an answer tell whether another tenant's object exists? `python -m benchmarks.secrecy`

Two calls in turn, one for a lease of another tenant and one for a lease that is not there, thousands of times; the
medians must differ by less than 5 %.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from walras.v1 import cluster_request_pb2, cluster_service_pb2, fleet_service_pb2
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub
from walras.v1.fleet_service_pb2_grpc import FleetServiceStub

from benchmarks.credentials import bearer, guarded_engine
from engine.trust.principal import Role

GPUS, ROUNDS, WARM_UP = 10_000, 1_500, 100
PAUSE_S = 0.012
"""Two calls in so much time stay below the quota of an account."""


def main() -> None:
    """Print one JSON object: by question, both medians and how far they are apart."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, guarded_engine(Path(name), GPUS) as engine:
        channel = grpc.insecure_channel(engine.target)
        clusters, fleet = ClusterServiceStub(channel), FleetServiceStub(channel)
        bob = bearer(engine.token(Role.TENANT, "bob"))
        wanted = cluster_request_pb2.ClusterRequest(gpu_count=1)
        lease = clusters.DeployCluster(cluster_service_pb2.DeployClusterRequest(cluster=wanted), metadata=bob)
        node = f"nodes/{lease.placement.node_ids[0]}"
        questions: dict[str, tuple[Callable[..., Any], Any, str]] = {
            "GetLease": (clusters.GetLease, cluster_service_pb2.GetLeaseRequest, lease.name),
            "ReleaseLease": (clusters.ReleaseLease, cluster_service_pb2.ReleaseLeaseRequest, lease.name),
            "GetNode": (fleet.GetNode, fleet_service_pb2.GetNodeRequest, node),
        }
        for question, (method, request, theirs) in questions.items():
            alice = bearer(engine.token(Role.TENANT, f"alice-{question}"))
            pair = (request(name=theirs), request(name=theirs[:-1] + "~"))
            found |= _measured(question, method, pair, alice)
    print(json.dumps(found, indent=1))


def _measured(question: str, method: Any, pair: tuple[Any, Any], metadata: Any) -> dict[str, float]:
    times: tuple[list[int], list[int]] = ([], [])
    for round_ in range(WARM_UP + ROUNDS):
        for which in (round_ % 2, 1 - round_ % 2):
            spent = _refused_ns(method, pair[which], metadata)
            if round_ >= WARM_UP:
                times[which].append(spent)
        time.sleep(PAUSE_S)
    foreign, missing = (statistics.median(each) for each in times)
    prefix = f"secrecy.{question}"
    return {
        f"{prefix}.foreign_us_p50": foreign / 1e3,
        f"{prefix}.missing_us_p50": missing / 1e3,
        f"{prefix}.apart_share": abs(foreign - missing) / missing,
    }


def _refused_ns(method: Any, request: Any, metadata: Any) -> int:
    started = time.perf_counter_ns()
    try:
        method(request, metadata=metadata, timeout=10)
    except grpc.RpcError as error:
        spent = time.perf_counter_ns() - started
        assert error.code() is grpc.StatusCode.NOT_FOUND, error
        return spent
    raise AssertionError("this is not the caller's")


if __name__ == "__main__":
    main()
