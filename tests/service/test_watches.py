"""Streams of leases and orders: every change once it is durable, from a version on, and never at others' cost."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from engine.domain.errors import OutOfRange, Overloaded
from engine.market.changes import LEASE, Changes
from engine.service import calls
from engine.service.watch_changes import Watches
from tests.service.loopback import Client, Loopback, refusal_of, refused

EAST = {"gpu_models": ["H100"], "regions": ["us-east"]}


def first(stream: Any) -> Any:
    return next(iter(stream))


def test_a_watch_tells_every_change(loopback: Loopback) -> None:
    """Law: begun, started, ended, each with the version to resume from; of the caller's own leases alone."""
    client = loopback.client
    watch = client.watch_leases()
    begun = first(watch)
    assert begun.version == client.stats().state_version and not begun.HasField("lease")
    client.as_tenant("bob").deploy(**EAST, gpu_count=1)
    lease = client.deploy(**EAST, gpu_count=8)
    started = next(watch)
    client.release(lease.name)
    ended = next(watch)
    assert [each.lease.name for each in (started, ended)] == [lease.name] * 2
    assert started.lease.state == lease.STATE_ACTIVE and not started.lease.placement.node_ids
    assert ended.lease.end_reason == "RELEASED" and begun.version < started.version < ended.version
    watch.cancel()
    resumed = client.watch_leases(after_version=started.version)
    assert not first(resumed).HasField("lease")
    assert next(resumed).lease.end_reason == "RELEASED"
    resumed.cancel()


def test_list_then_watch_misses_nothing(loopback: Loopback) -> None:
    """Law: what changed after the list is told; changes that wait together are told as the last of them."""
    client = loopback.client
    version = client.leases().state_version
    lease = client.deploy(**EAST, gpu_count=8)
    client.release(lease.name)
    watch = client.watch_leases(after_version=version)
    assert not first(watch).HasField("lease")
    change = next(watch)
    assert (change.lease.name, change.lease.end_reason) == (lease.name, "RELEASED")
    assert change.version == client.leases(show_ended=True).state_version
    watch.cancel()


def test_a_watch_ends_by_itself_with_a_version(loopback: Loopback) -> None:
    """Law: the last message says where to go on, changes of others behind it."""
    client = loopback.client
    watch = client.watch_orders(timeout_s=0.5)
    first(watch)
    client.as_tenant("bob").deploy(**EAST, gpu_count=1)
    last = list(watch)[-1]
    assert last.version == client.stats().state_version and not last.HasField("order")


@pytest.mark.parametrize("kind", ["watch_leases", "watch_orders"])
def test_versions_out_of_range(loopback: Loopback, kind: str) -> None:
    """Law: too old or not there yet is OUT_OF_RANGE with a reason, negative is bad input."""
    client = loopback.client
    loopback.engine.state.changes.complete_from = 2
    call = getattr(client, kind)
    for version in (1, 1_000_000):
        refusal = refused(lambda version=version: list(call(after_version=version)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "VERSION_OUT_OF_RANGE")
        assert refusal.metadata == {"oldest_version": "2"}
    assert refused(lambda: list(call(after_version=-1))).fields == ("after_version",)


def test_versions_survive_a_restart(loopback: Loopback, reopened: Any) -> None:
    """Law: versions never go back, and history is that of the journal."""
    version = loopback.client.leases().state_version
    lease = loopback.client.deploy(**EAST, gpu_count=8)
    client: Client = reopened()
    watch = client.watch_leases(after_version=version)
    first(watch)
    assert next(watch).lease.name == lease.name
    watch.cancel()


def test_history_is_bounded() -> None:
    """Law: at least so many changes are kept, at most twice as many, and none is missing after `complete_from`."""
    changes = Changes(least=10)
    for version in range(1, 100):
        changes.note(version, LEASE, "alice", f"l-{version}")
        assert len(changes.kept) <= 20
        told = [change.version for change in changes.after(changes.complete_from, 1_000)]
        assert told == list(range(changes.complete_from + 1, version + 1))
        assert version <= 10 or len(told) >= 10
    assert [change.version for change in changes.after(95, 2)] == [96, 97]


def test_a_reader_that_history_left_behind(loopback: Loopback) -> None:
    """Law: a slow reader is dropped with RESOURCE_EXHAUSTED; it holds no memory and no other reader."""
    engine = loopback.engine

    async def read() -> str:
        engine.state.changes.least = 4
        watches = Watches(engine, 30.0)
        stream = watches.run(("alice", LEASE), None, None, lambda state, version, subject: version)
        await anext(stream)
        for _ in range(6):
            engine.state.changes.note(engine.state.version, LEASE, "alice", "l-1")
            engine.state.version += 1
        engine.state.changes.note(engine.state.version, LEASE, "alice", "l-1")
        engine.state.changes.note(engine.state.version, LEASE, "alice", "l-1")
        try:
            await anext(stream)
        except Overloaded as error:
            return error.message
        return ""

    assert "too slow" in loopback.run(read())


def test_a_reader_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: a message that nobody takes ends the stream as RESOURCE_EXHAUSTED, while others are served."""
    monkeypatch.setattr(calls, "SLOW_READER_S", 0.01)

    class Stuck:
        async def write(self, message: Any) -> None:
            await asyncio.Event().wait()

    closed = []

    async def endless(request: Any, context: Any) -> Any:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    with pytest.raises(Overloaded, match="too slow"):
        asyncio.run(calls._written(endless)(None, Stuck()))  # type: ignore[arg-type]
    assert closed


def test_too_many_watches(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 9: too much gets RESOURCE_EXHAUSTED with a hint."""
    monkeypatch.setattr("engine.service.watch_changes.WATCHES_MAX", 1)
    watch = loopback.client.watch_leases()
    first(watch)
    with pytest.raises(grpc.RpcError) as error:
        first(loopback.client.watch_orders())
    assert refusal_of(error.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    watch.cancel()


def test_a_planted_gap_is_seen() -> None:
    """A history that forgets without saying so breaks the law of the bounded history."""
    changes = Changes(least=2)
    for version in range(1, 5):
        changes.note(version, LEASE, "alice", "l")
    changes.complete_from = 0
    told = [change.version for change in changes.after(0, 10)]
    assert told != [1, 2, 3, 4]
    assert issubclass(OutOfRange, Exception)
