"""No reply shows what a crash could undo (law 4): every answer waits for all that it may have seen."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import polars as pl
from walras.v1 import cluster_service_pb2, fleet_service_pb2

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.journal.database import FILE_NAME
from engine.market import commands
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.calls import RefusedWithDetails
from engine.service.cluster_service import ClusterService
from engine.service.engine import Engine
from engine.service.fleet_service import FleetService
from engine.service.identity import enter
from tests.service.loopback import Book, Clock, cluster, node, small_fleet


class SlowDisk:
    """The engine's journal with commits that happen when the test says so."""

    def __init__(self) -> None:
        self.failure = None
        self.appended = self.durable = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def append(self, events: list[bytes], recorded_at_us: int) -> Awaitable[int]:
        self.appended += len(events)
        return self._until(self.appended)

    async def _until(self, sequence: int) -> int:
        if sequence > self.durable:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((sequence, future))
            await future
        return sequence

    def commit(self, sequence: int) -> None:
        """Everything up to a sequence is on disk now; those who waited for it run in the next turn."""
        self.durable = sequence
        for wanted, future in self._waiting:
            if wanted <= sequence and not future.done():
                future.set_result(None)

    def close(self) -> None:
        pass


async def some_turns() -> None:
    """Let every task go on until it waits again."""
    for _ in range(10):
        await asyncio.sleep(0)


def on_a_slow_disk(
    tmp_path: Path, ask: Callable[[Engine], Awaitable[Any]], *, between: int = 1
) -> tuple[Any, SlowDisk, Engine]:
    """(what a call saw, the disk, the engine): another deployment comes in while the call waits for the first."""

    async def scenario() -> tuple[Any, SlowDisk, Engine]:
        engine = Engine(tmp_path, Book(), Clock())
        engine.journal.close()
        disk = engine.journal = SlowDisk()  # type: ignore[assignment]
        enter("alice")
        nodes = pl.DataFrame(small_fleet(), schema=FLEET_SCHEMA)
        _lazy(engine.submit(commands.LoadFleet(nodes, pl.DataFrame(schema=RTT_SCHEMA)), NO_STOPWATCH))
        disk.commit(disk.appended)
        deploy(engine)
        call = asyncio.ensure_future(_outcome(ask(engine)))
        await some_turns()
        seen_up_to = disk.appended
        for _ in range(between):
            deploy(engine)
        disk.commit(seen_up_to)
        await some_turns()
        done = call.done()
        disk.commit(disk.appended if not done else seen_up_to)
        return await call, disk, engine

    return asyncio.run(scenario())


async def _outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except (WalrasError, RefusedWithDetails) as refusal:
        return refusal


def _lazy(submitted: tuple[Any, Any]) -> None:
    """Drop a receipt that nobody awaits."""
    submitted[1].close()


def deploy(engine: Engine) -> None:
    _lazy(engine.submit(commands.DeployCluster("alice", ClusterRequest(gpu_count=1)), NO_STOPWATCH))


def test_stats_show_durable_versions_only(tmp_path: Path) -> None:
    """Law 4: versions never go back; counts of a version that could still be lost are not shown."""
    stats, disk, _ = on_a_slow_disk(
        tmp_path, lambda engine: FleetService(engine).GetFleetStats(fleet_service_pb2.GetFleetStatsRequest(), None)
    )
    assert stats.state_version <= disk.durable


def test_lists_show_durable_leases_only(tmp_path: Path) -> None:
    """Law 4: a lease that could still be lost is in no list."""
    listed, disk, _ = on_a_slow_disk(
        tmp_path,
        lambda engine: ClusterService(engine).ListLeases(cluster_service_pb2.ListLeasesRequest(), None),
    )
    durable = {f"l-{sequence:010d}" for sequence in range(disk.durable + 1)}
    assert {lease.lease_id for lease in listed.leases} <= durable


def test_a_refusal_rests_on_durable_leases_only(tmp_path: Path) -> None:
    """Law 4: a no waits, too: the leases that are in the way could still be lost."""
    wanted = cluster_service_pb2.DeployClusterRequest(cluster=cluster(gpu_count=44, allow_mixed_models=True))

    async def ask(engine: Engine) -> Any:
        disk: Any = engine.journal
        before = disk.durable
        answer = await _outcome(ClusterService(engine).DeployCluster(wanted, None))
        return answer, disk.durable > before

    (refusal, waited), _, _ = on_a_slow_disk(tmp_path, ask)
    assert isinstance(refusal, RefusedWithDetails)
    assert waited, "the refusal left while the lease in its way was not on disk"


def test_a_release_answers_with_durable_facts(tmp_path: Path) -> None:
    """Law 4: the reply of a change waits for the change."""
    request = cluster_service_pb2.ReleaseLeaseRequest(name="leases/l-0000000003")
    lease, disk, _ = on_a_slow_disk(tmp_path, lambda engine: ClusterService(engine).ReleaseLease(request, None))
    assert lease.end_reason == "RELEASED"
    assert disk.durable >= 4


def test_thousands_of_leases_that_end_at_once(tmp_path: Path) -> None:
    """Laws 4 and 9: while the disk is busy, more leases than the journal's queue holds come to their end."""

    async def scenario() -> int:
        clock = Clock()
        engine = Engine(tmp_path, Book(), clock)
        nodes = [node(f"n{i}", gpu_count=1_000) for i in range(5)]
        load = commands.LoadFleet(pl.DataFrame(nodes, schema=FLEET_SCHEMA), pl.DataFrame(schema=RTT_SCHEMA))
        await engine.submit(load, NO_STOPWATCH)[1]
        for _ in range(3):
            for _ in range(1_400):
                command = commands.DeployCluster("alice", ClusterRequest(gpu_count=1))
                _, receipt = engine.submit(command, NO_STOPWATCH)
            await receipt
        clock.advance_s(3_600)
        stall = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
        stall.execute("BEGIN IMMEDIATE")
        try:
            engine.end_due(engine.now_us())
        finally:
            stall.execute("ROLLBACK")
            stall.close()
        active = await engine.read(lambda state: state.active)
        engine.close()
        return active

    assert asyncio.run(scenario()) == 0
