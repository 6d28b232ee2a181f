"""The demo: an engine of its own, a million GPUs, a cluster, a refusal, a planned queue; nothing left behind.

The engine is a child process on a free loopback port with a temporary data directory; both are gone at the
end, also after an interrupt. The child warms up while this process draws the fleet.
"""

from __future__ import annotations

import signal
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from walras.v1 import cluster_service_pb2, fleet_service_pb2

from engine.cli.cluster_calls import deploy
from engine.cli.cluster_message import checked_request, cluster_message
from engine.cli.cluster_view import show_lease, show_request
from engine.cli.connection import Connection
from engine.cli.demo_queue import plan_queue
from engine.cli.demo_story import Story, story_lines
from engine.cli.explanation_view import show_explanation
from engine.cli.failures import failure_of
from engine.cli.fleet_load import Inventory, load_inventory
from engine.cli.process import ended_by
from engine.cli.screen import answers, remarks
from engine.cli.server_process import ServerProcess, server_process
from engine.datasets.synthetic import synthetic_fleet, synthetic_rtt

if TYPE_CHECKING:
    from rich.console import Console

    from engine.domain.cluster_request import ClusterRequest

CLUSTER_GPUS = 10_000
FLEET_TO_CLUSTER = 100
"""A smaller fleet gets a smaller cluster, in the proportion of the full demo."""
GPUS_PER_NODE = 8
ENDED_BY = (signal.SIGTERM, signal.SIGHUP)


def run_demo(gpus: int, seed: int) -> None:
    """Run all of it; the last screen is the story in twelve lines."""
    console, started = answers(), time.perf_counter()
    with (
        ended_by(*ENDED_BY),
        tempfile.TemporaryDirectory(prefix="walras-demo-") as place,
        server_process(Path(place) / "data", Path(place) / "engine.log") as server,
    ):
        story = _played(console, server, gpus, seed)
    console.rule("the story in twelve lines")
    for line in story_lines(story):
        console.print(line, soft_wrap=True)
    seconds = time.perf_counter() - started
    console.print(f"\nall of it in {seconds:.0f} s; the engine is stopped and its data removed")


def cluster_request(gpus: int) -> ClusterRequest:
    """What the demo deploys: a training cluster of whole H100 nodes, not too far from New York."""
    return _near_new_york(gpus, "demo-training-run", max_client_rtt_ms=80.0)


def impossible_request(gpus: int) -> ClusterRequest:
    """What the demo is refused: as many GPUs again, so near that there are not enough."""
    return _near_new_york(gpus, "demo-too-near", max_client_rtt_ms=5.0)


def _near_new_york(gpus: int, request_id: str, max_client_rtt_ms: float) -> ClusterRequest:
    return checked_request(
        {
            "request_id": request_id,
            "gpu_models": ["H100"],
            "gpu_count": min(CLUSTER_GPUS, gpus // FLEET_TO_CLUSTER) // GPUS_PER_NODE * GPUS_PER_NODE,
            "gpus_per_node": GPUS_PER_NODE,
            "min_security_tier": "VERIFIED",
            "client_latitude": 40.7,
            "client_longitude": -74.0,
            "max_client_rtt_ms": max_client_rtt_ms,
            "duration_s": 24 * 3_600,
        }
    )


def _played(console: Console, server: ServerProcess, gpus: int, seed: int) -> Story:
    inventory = _drawn_fleet(gpus, seed)
    with remarks().status("the engine is warming up"):
        connection = Connection(target=server.target(), tenant="demo")
    console.rule("the fleet")
    loaded, load_s = _timed_load(connection, inventory)
    sites = inventory.fleet["site_id"].n_unique()
    console.print(f"{loaded.gpus_registered:,} GPUs on {loaded.nodes_added:,} nodes at {sites:,} sites")
    console.rule("a cluster")
    wanted = cluster_request(gpus)
    show_request(console, wanted)
    lease, call_us = _deployed(connection, wanted)
    show_lease(console, lease)
    console.rule("a request that cannot be served")
    too_near = impossible_request(gpus)
    show_request(console, too_near)
    refusal = _refused(connection, too_near)
    show_explanation(console, refusal)
    console.rule("a queue, planned together")
    queue = plan_queue(console, connection, inventory.fleet, seed)
    return Story(
        loaded=loaded,
        load_s=load_s,
        sites=sites,
        wanted=wanted,
        lease=lease,
        lease_sites=_sites(inventory, lease),
        call_us=call_us,
        refused=too_near,
        refusal=refusal,
        queue=queue,
    )


def _sites(inventory: Inventory, lease: cluster_service_pb2.Lease) -> int:
    taken = inventory.fleet["node_id"].is_in(list(lease.placement.node_ids))
    return inventory.fleet.filter(taken)["site_id"].n_unique()


def _drawn_fleet(gpus: int, seed: int) -> Inventory:
    with remarks().status(f"drawing a fleet of {gpus:,} GPUs"):
        fleet = synthetic_fleet(gpus, seed)
        return Inventory(fleet, synthetic_rtt(fleet, seed))


def _timed_load(connection: Connection, inventory: Inventory) -> tuple[fleet_service_pb2.LoadFleetResponse, float]:
    started = time.perf_counter()
    loaded = load_inventory(connection, inventory)
    return loaded, time.perf_counter() - started


def _deployed(connection: Connection, request: ClusterRequest) -> tuple[cluster_service_pb2.Lease, int]:
    """(the lease, microseconds of the whole call as this client saw it, on a channel already open)."""
    call = _deploy_call(request)
    with connection.channel() as channel:
        grpc.channel_ready_future(channel).result()
        started = time.perf_counter_ns()
        lease = deploy(channel, connection, call)
        return lease, (time.perf_counter_ns() - started) // 1_000


def _refused(connection: Connection, request: ClusterRequest) -> cluster_service_pb2.Explanation:
    """The explanation that comes with the refusal."""
    with connection.channel() as channel:
        try:
            deploy(channel, connection, _deploy_call(request))
        except grpc.RpcError as error:
            failure = failure_of(error)
            if failure.explanation is None:
                raise
            return failure.explanation
    raise RuntimeError("the request that cannot be served was served")


def _deploy_call(request: ClusterRequest) -> cluster_service_pb2.DeployClusterRequest:
    key = uuid.uuid4().hex
    return cluster_service_pb2.DeployClusterRequest(cluster=cluster_message(request), idempotency_key=key)
