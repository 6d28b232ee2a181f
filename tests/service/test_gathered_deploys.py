"""Single deployments that come at the same time: decided together, answered as if they had come in turn."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walras.v1 import cluster_service_pb2 as pb

from engine.domain.errors import Unavailable, WalrasError
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.market.commands import DeployMany, LoadFleet
from engine.market.stopwatch import NO_STOPWATCH
from engine.service import gathered_deploys
from engine.service.calls import RefusedWithDetails
from engine.service.cluster_service import ClusterService
from engine.service.engine import Engine
from engine.service.gathered_deploys import GatheredDeploys
from engine.service.identity import enter
from tests.full_size import size
from tests.service.loopback import Book, Clock, cluster, node, small_fleet

FLEET = [*small_fleet(), *(node(f"n{number:02d}", ask_micro_usd_per_gpu_hour=2_600_000) for number in range(4))]
Wanted = tuple[str, str, dict[str, Any]]
"""(tenant, key, fields of the cluster)."""

fields_of = st.sampled_from(
    [
        {"gpu_count": 1},
        {"gpu_count": 1},
        {"gpu_count": 2, "gpu_models": ["A100"]},
        {"gpu_count": 8, "duration_s": 90_000},
        {"gpu_count": 2, "request_id": "mine", "regions": ["us-west"]},
        {"gpu_count": 4, "max_price_micro_usd_per_gpu_hour": 1},
        {"gpu_count": 8, "same_fabric": True},
        {"gpu_count": 3, "regions": ["nowhere"]},
        {"gpu_count": 10**6},
        {"gpu_count": 0},
    ]
)
calls = st.lists(
    st.tuples(st.sampled_from(["alice", "bob"]), st.sampled_from(["", "", "a", "b", "c", "\x00"]), fields_of),
    min_size=1,
    max_size=12,
)


async def an_engine(place: Path) -> Engine:
    engine = Engine(place, Book(), Clock())
    load = LoadFleet(pl.DataFrame(FLEET, schema=FLEET_SCHEMA), pl.DataFrame(schema=RTT_SCHEMA))
    await engine.submit(load, NO_STOPWATCH)[1]
    return engine


def message_of(wanted: Wanted) -> pb.DeployClusterRequest:
    _, key, fields = wanted
    return pb.DeployClusterRequest(cluster=cluster(**fields), idempotency_key=key)


async def called(service: ClusterService, wanted: Wanted) -> Any:
    """The lease without its timings, or what kind of refusal: its explanation looks at what others left."""
    enter(wanted[0])
    try:
        lease = await service.DeployCluster(message_of(wanted), None)
    except RefusedWithDetails as refusal:
        return type(refusal.error), refusal.error.reason
    except WalrasError as refusal:
        return type(refusal), refusal.reason, str(refusal)
    lease.ClearField("timings")
    return lease


def in_turn(wanted: Sequence[Wanted], engine: Engine) -> list[Wanted]:
    """The order in which they are decided: those that wait for nobody, then tenant after tenant as they came."""
    gathered = GatheredDeploys(engine, lambda: 0, crowd=0)
    waits = [gathered.item_of(each[0], message_of(each)) is not None for each in wanted]
    waiting = [each for each, waits_for_others in zip(wanted, waits, strict=True) if waits_for_others]
    tenants = dict.fromkeys(tenant for tenant, *_ in waiting)
    at_once = [each for each, waits_for_others in zip(wanted, waits, strict=True) if not waits_for_others]
    return at_once + [each for tenant in tenants for each in waiting if each[0] == tenant]


@given(calls)
@settings(max_examples=size(20, 2_000), deadline=None)
def test_calls_that_come_together_are_the_same_in_turn(wanted: list[Wanted]) -> None:
    """Law: calls that are decided together get the leases and refusals, and leave the state and the watched
    changes, of the same calls one after the other: known keys, bad requests, what has no place in between."""

    async def scenario(place: Path) -> None:
        one_by_one, together = await an_engine(place / "a"), await an_engine(place / "b")
        single, gathering = ClusterService(one_by_one), ClusterService(together, crowd=0)
        ordered = in_turn(wanted, together)
        expected = [await called(single, each) for each in ordered]
        found = await asyncio.gather(*(called(gathering, each) for each in ordered))
        assert found == expected
        assert together.state.hash() == one_by_one.state.hash()
        assert together.state.changes.kept == one_by_one.state.changes.kept
        one_by_one.close()
        together.close()

    with tempfile.TemporaryDirectory() as place:
        asyncio.run(scenario(Path(place)))


def gathered(tmp_path: Path, wanted: Sequence[Wanted], *, before: Any = None, crowd: int = 0) -> tuple[Any, Any]:
    """(what calls that come together get, the engine's leases after it was started again)."""

    async def scenario() -> list[Any]:
        engine = await an_engine(tmp_path)
        service = ClusterService(engine, crowd=crowd)
        tasks = [asyncio.ensure_future(called(service, each)) for each in wanted]
        if before is not None:
            await asyncio.sleep(0)
            before(engine, tasks)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        engine.close()
        return outcomes

    outcomes = asyncio.run(scenario())
    again = Engine(tmp_path, Book(), Clock())
    again.close()
    return outcomes, again.state.leases


ALIKE = [("alice", f"k{number}", {"gpu_count": 1}) for number in range(6)]


def test_alike_calls_are_one_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 4: calls that come together are one decision, and what was answered survives a restart; with too few
    under way each is decided as it comes."""
    decided: list[Any] = []
    submit = Engine.submit

    def noted(self: Engine, command: Any, stopwatch: Any) -> Any:
        decided.append(command)
        return submit(self, command, stopwatch)

    monkeypatch.setattr(Engine, "submit", noted)
    outcomes, leases = gathered(tmp_path / "many", ALIKE)
    assert [lease.lease_id for lease in outcomes] == list(leases) and len(leases) == 6
    assert [type(command) for command in decided[1:]] == [DeployMany]
    decided.clear()
    outcomes, leases = gathered(tmp_path / "few", ALIKE, crowd=1)
    assert [lease.lease_id for lease in outcomes] == list(leases) and len(decided) == 7


def test_who_goes_away_while_it_waits_has_asked_for_nothing(tmp_path: Path) -> None:
    """Law: a call that ends before its turn leaves nothing behind, and the others get their leases."""
    outcomes, leases = gathered(tmp_path, ALIKE, before=lambda _, tasks: tasks[2].cancel())
    assert isinstance(outcomes.pop(2), asyncio.CancelledError)
    assert [lease.lease_id for lease in outcomes] == list(leases) and len(leases) == 5


@pytest.mark.parametrize("error", [RuntimeError("a bug"), Unavailable("no disk")])
def test_an_error_is_that_of_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Law 9: whatever happens to calls that are decided together, each ends with it; nobody is left waiting."""

    def fails(*_: Any) -> Any:
        raise error

    def break_it(engine: Engine, _: Any) -> None:
        monkeypatch.setattr(engine, "submit", fails)

    outcomes, leases = gathered(tmp_path, ALIKE, before=break_it)
    assert len(outcomes) == 6 and not leases
    for outcome in outcomes:
        told = outcome[0] if isinstance(outcome, tuple) else type(outcome)
        assert told is type(error)


def test_more_than_are_decided_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: however many come together, each gets a lease of its own."""
    monkeypatch.setattr(gathered_deploys, "MANY_MAX", 4)
    outcomes, leases = gathered(tmp_path, [("alice", "", {"gpu_count": 1})] * 11)
    assert sorted(lease.lease_id for lease in outcomes) == sorted(leases) and len(leases) == 11
