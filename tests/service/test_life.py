"""The life of a server process: ready, healthy, draining, gone; and what it says when it cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from walras.v1 import fleet_service_pb2_grpc

from engine.cli.server_process import ServerProcess, server_process
from engine.domain.errors import WalrasError
from engine.journal import CorruptJournal
from engine.service.priorities import NICE_MAX, READERS, READING_NICE, TASKS
from engine.service.server import SERVICES
from engine.service.status import CODES
from engine.service.verify import verify_journal
from tests.service.loopback import CHANNEL_OPTIONS, TIMEOUT_S, Client, Loopback, load_chunks, node, refused
from tests.service.reflected import has_symbol, services_of

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ("Cluster", "Fleet", "Ledger", "Oracle", "Order", "Plan")
WALRAS_SERVICES = {f"walras.v1.{name}Service" for name in NAMES}


def healthy(channel: grpc.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S).status)


def test_serving_as_soon_as_it_listens(empty: Loopback) -> None:
    """Health is SERVING for the server and each of its services, and NOT_FOUND for one it has not."""
    assert set(SERVICES) == WALRAS_SERVICES
    for service in ("", *WALRAS_SERVICES):
        assert healthy(empty.channel, service) == SERVING
    assert refused(healthy, empty.channel, "walras.v1.Nothing").code is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(empty: Loopback) -> None:
    """A client without our files learns our services, and health and reflection, from the server."""
    assert services_of(empty.channel) == WALRAS_SERVICES | {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for symbol in (*WALRAS_SERVICES, "walras.v1.ClusterRequest", "walras.v1.Placement"):
        assert has_symbol(empty.channel, symbol)


def every_error(root: type[WalrasError] = WalrasError) -> Iterator[type[WalrasError]]:
    """All classes below the root, wherever they are."""
    for child in root.__subclasses__():
        yield child
        yield from every_error(child)


def test_the_tree_of_errors_is_mapped_whole() -> None:
    """Law 9: every error of ours, the journal's included, has a status, never OK or UNKNOWN."""
    leaves = set(every_error())
    assert CorruptJournal in leaves
    assert leaves == CODES.keys()
    assert not {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN} & set(CODES.values())


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`walras serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "engine.cli", "serve", "--dev", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def complaints(said: str) -> list[str]:
    """Lines on stderr without the log's, which begin with a time."""
    return [line for line in said.splitlines() if not line[:4].isdigit()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str, Path]]:
    """A server process, its target and its data directory."""
    place = tmp_path_factory.mktemp("life")
    with server_process(place / "data", place / "engine.log") as process:
        yield process, process.target(), place / "data"


@pytest.mark.parametrize("taken", ["port", "data"])
def test_a_second_server(server: Any, tmp_path: Path, taken: str) -> None:
    """A taken port or data directory is exit 3 and one line on stderr; the first server goes on."""
    _, target, data_dir = server
    listen, place = (target, tmp_path / "data") if taken == "port" else ("127.0.0.1:0", data_dir)
    second = serve("--listen", listen, "--data-dir", str(place))
    assert second.returncode == 3, second
    assert second.stdout == ""
    (line,) = complaints(second.stderr)
    assert line.startswith("UNAVAILABLE: ")
    assert (target if taken == "port" else str(data_dir)) in line
    with grpc.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        assert healthy(channel) == SERVING


@pytest.mark.skipif(not TASKS.is_dir(), reason="the system does not name threads")
def test_readers_of_the_network_give_way_to_decisions(server: Any) -> None:
    """Law: every thread of gRPC that reads has the lower priority, and the one that decides has its own."""
    process, _, _ = server
    nice = {
        int(task.name): os.getpriority(os.PRIO_PROCESS, int(task.name))
        for task in Path(f"/proc/{process.pid}/task").iterdir()
        if int(task.name) == process.pid or (task / "comm").read_text().strip() in READERS
    }
    own = nice.pop(process.pid)
    assert own == os.getpriority(os.PRIO_PROCESS, 0)
    assert nice and set(nice.values()) == {min(own + READING_NICE, NICE_MAX)}


def test_a_server_that_is_told_to_stop(server: Any) -> None:
    """SIGTERM: health turns NOT_SERVING, new calls are turned away, running ones are answered and durable; exit 0.

    The last test of this server.
    """
    process, target, data_dir = server
    with grpc.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        client = Client(channel)
        client.load([node("n0")])
        lease = client.deploy()
        go_on = threading.Event()

        def slowly() -> Iterator[Any]:
            yield from load_chunks([node("n1")])
            go_on.wait(TIMEOUT_S)
            yield from load_chunks([node("n2")])

        stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
        running = stub.LoadFleet.future(slowly(), metadata=client.metadata, timeout=TIMEOUT_S)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        # Calls of one connection arrive in order: once the watch is answered the load has begun.
        assert next(watch).status == SERVING
        os.kill(process.pid, signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        assert not running.done()
        with grpc.insecure_channel(
            target, options=(*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        ) as new:
            assert refused(Client(new).deploy, gpu_count=1).code is grpc.StatusCode.UNAVAILABLE
        go_on.set()
        answer = running.result(TIMEOUT_S)
        assert (answer.nodes_added, answer.gpus_registered) == (2, 24)
    assert process.stop() == 0
    report = verify_journal(data_dir)
    assert (report.leases_active, report.gpus_leased) == (1, lease.gpu_count)


def test_an_open_health_watch_does_not_hold_up_a_drain(tmp_path: Path) -> None:
    """SIGTERM: whoever watches the health hears NOT_SERVING and then the end of the stream, not a broken call."""
    with (
        server_process(tmp_path / "data", tmp_path / "engine.log") as process,
        grpc.insecure_channel(process.target(), options=CHANNEL_OPTIONS) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert next(watch).status == SERVING
        os.kill(process.pid, signal.SIGTERM)
        assert [answer.status for answer in watch] == [NOT_SERVING]
        assert process.stop() == 0
