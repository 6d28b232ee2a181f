"""DeployClusters: a batch is the same calls in turn, only together."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import grpc
import polars as pl
import pytest
from walras.v1 import cluster_service_pb2 as pb
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub

from engine.cli.server_process import server_process
from engine.domain.cluster_request import ClusterRequest, parse_cluster_request
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.market.commands import LoadFleet
from engine.market.explain import verdict_on
from engine.market.stopwatch import NO_STOPWATCH
from engine.service import batched_deploys
from engine.service.batch_items import ITEMS_MAX
from engine.service.request_message import cluster_message
from engine.trust.quotas import NO_QUOTAS
from tests.full_size import size
from tests.service.loopback import (
    CHANNEL_OPTIONS,
    TIMEOUT_S,
    Client,
    Loopback,
    Row,
    cluster,
    node,
    refusal_of,
    refused,
    running,
    small_fleet,
)
from tests.worlds import draw_request, draw_world

FLEET = [*small_fleet(), *(node(f"n{number:02d}", ask_micro_usd_per_gpu_hour=2_600_000) for number in range(8))]


REQUESTS = 6
"""Different ones in a random message; each comes twice."""
Told = tuple[int, str, str, dict[str, str]] | None


def batch(client: Client, *messages: pb.DeployClustersRequest) -> list[pb.DeployClustersResponse]:
    """The answers to the messages of one stream."""
    method = ClusterServiceStub(client.channel).DeployClusters
    return list(method(iter(messages), metadata=client.metadata, timeout=TIMEOUT_S))


def item(key: str = "", **fields: Any) -> pb.ClusterDeployment:
    return pb.ClusterDeployment(cluster=cluster(**fields), idempotency_key=key)


WANTED = [
    {"gpu_count": 1},
    {"gpu_count": 3, "gpu_models": ["A100"]},
    {"gpu_count": 8, "duration_s": 90_000},
    {"gpu_count": 10**6},
    {"gpu_count": 2, "request_id": "mine", "regions": ["us-west"]},
    {"gpu_count": 4, "max_price_micro_usd_per_gpu_hour": 1},
    {"gpu_count": 16, "gpus_per_node": 8},
]
"""Some are refused."""


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    """Two engines alike."""
    two = [Loopback(tmp_path / name) for name in "ab"]
    for each in two:
        each.client.load(FLEET)
    yield two
    for each in two:
        each.close()


@pytest.mark.parametrize("whole", [False, True])
def test_a_batch_is_the_same_calls_in_turn(pair: list[Loopback], whole: bool) -> None:
    """Law: a batch leaves the state that its items leave as calls of their own, and answers the same leases."""
    one_by_one, together = pair
    leases, refusals = [], []
    for number, fields in enumerate(WANTED):
        answer = _called(one_by_one.client, f"k{number}", fields)
        (leases if isinstance(answer, pb.Lease) else refusals).append(answer)
    items = [item(f"k{number}", **fields) for number, fields in enumerate(WANTED)]
    first, second = batch(
        together.client,
        pb.DeployClustersRequest(items=items[:4], whole_leases=whole),
        pb.DeployClustersRequest(items=items[4:], whole_leases=whole),
    )
    assert together.engine.state.hash() == one_by_one.engine.state.hash()
    errors = [*first.errors, *second.errors]
    assert [error.index for error in errors] == [3, 1]
    assert [error.code for error in errors] == [refusal.code.value[0] for refusal in refusals]
    if whole:
        found = [lease for answer in (first, second) for lease in answer.leases if lease.lease_id]
        assert found == leases
    else:
        found = [_columns(answer) for answer in (first, second)]
        assert [row for rows in found for row in rows if row[0]] == [_row(lease) for lease in leases]


def _called(client: Client, key: str, fields: dict[str, Any]) -> Any:
    try:
        lease = client.deploy(key=key, **{"gpu_count": 8, **fields})
    except grpc.RpcError:
        return refused(client.deploy, key=key, **{"gpu_count": 8, **fields})
    lease.ClearField("timings")
    return lease


def _row(lease: pb.Lease) -> tuple[Any, ...]:
    place = lease.placement
    rows = tuple(zip(place.node_ids, place.gpus, place.prices_micro_usd_per_gpu_hour, strict=True))
    return lease.lease_id, lease.gpu_count, lease.price.total_micro_usd, lease.end_time_us, rows


def _columns(answer: pb.DeployClustersResponse) -> list[tuple[Any, ...]]:
    place, rows, start = answer.placement, [], 0
    nodes = list(zip(place.node_ids, place.gpus, place.prices_micro_usd_per_gpu_hour, strict=True))
    for count in answer.node_counts:
        rows.append(tuple(nodes[start : start + count]))
        start += count
    columns = answer.lease_ids, answer.gpu_counts, answer.totals_micro_usd, answer.end_times_us, rows
    return list(zip(*columns, strict=True))


def test_a_series_is_its_items(pair: list[Loopback]) -> None:
    """Law: items that are alike, sent as a series, leave the same state and get the same answer."""
    keys, counts = [f"s{number}" for number in range(6)], [1, 2, 1, 4, 99_999, 2]
    items = [item(key, gpu_count=count) for key, count in zip(keys, counts, strict=True)]
    series = pb.ClusterDeploymentSeries(deployment=item(), idempotency_keys=keys, gpu_counts=counts)
    answers = [
        batch(each.client, message)
        for each, message in zip(
            pair, (pb.DeployClustersRequest(items=items), pb.DeployClustersRequest(series=series)), strict=True
        )
    ]
    assert answers[0] == answers[1]
    assert pair[0].engine.state.hash() == pair[1].engine.state.hash()


@pytest.mark.parametrize("whole", [False, True])
def test_alike_items_are_the_same_calls_in_turn(pair: list[Loopback], whole: bool) -> None:
    """Law: items that are decided together leave the state, the watched changes and the answers of single calls,
    with a key twice and an item that finds no place between them."""
    one_by_one, together = pair
    counts, keys = [1, 2, 1, 99_999, 4, 2, 1, 8], ["a", "b", "a", "c", "d", "e", "", "f"]
    leases = []
    for key, count in zip(keys, counts, strict=True):
        answer = _called(one_by_one.client, key, {"gpu_count": count})
        leases += [answer] if isinstance(answer, pb.Lease) else []
    items = [item(key, gpu_count=count) for key, count in zip(keys, counts, strict=True)]
    (answer,) = batch(together.client, pb.DeployClustersRequest(items=items, whole_leases=whole))
    assert [(error.index, error.reason) for error in answer.errors] == [(3, "NO_CAPACITY")]
    if whole:
        assert [lease for lease in answer.leases if lease.lease_id] == leases
    else:
        assert [row for row in _columns(answer) if row[0]] == [_row(lease) for lease in leases]
    states = [each.engine.state for each in pair]
    assert states[0].hash() == states[1].hash() and states[0].changes.kept == states[1].changes.kept
    assert states[1].sequence < states[0].sequence == states[0].version


def test_an_item_is_refused_as_a_call_is(tmp_path: Path) -> None:
    """Law: in random worlds the error of an item is that of the same call: code, reason, sentence, figures."""
    reasons = set[str]()
    for seed in range(size(10, 300)):
        for each in compared(tmp_path / str(seed), Random(seed)):
            reasons |= {each[1]} if each else set()
    assert len(reasons) > 5, "few kinds of refusals were seen"


def compared(folder: Path, random: Random) -> Iterator[Told]:
    """What the items of a message are told on a fleet, each compared with a call in its turn; leases are None."""
    world = draw_world(random, 12)
    rows = [draw_request(random, world.fleet, world.rtt, world.posted) for _ in range(REQUESTS)]
    asked = [pb.ClusterDeployment(cluster=wanted_by(row)) for row in [*rows, *rows]]
    with closing(Loopback(folder / "a")) as one_by_one, closing(Loopback(folder / "b")) as together:
        for each in (one_by_one, together):
            each.client.load(world.fleet, world.rtt)
        (answer,) = batch(together.client, pb.DeployClustersRequest(items=asked))
        errors = {error.index: error for error in answer.errors}
        for index, deployment in enumerate(asked):
            told = told_in(errors.get(index))
            assert told == told_to(one_by_one.client, deployment.cluster), rows[index % REQUESTS]
            yield told


def wanted_by(row: Row) -> Any:
    beside = {"tenant_id", "submitted_at_us"}
    return cluster_message(parse_cluster_request({name: row[name] for name in row.keys() - beside}))


def told_in(error: pb.ClusterDeploymentError | None) -> Told:
    return None if error is None else (error.code, error.reason, error.message, dict(error.metadata))


def told_to(client: Client, wanted: Any) -> Told:
    """What a call is refused with; None if it is not."""
    try:
        client.deploy(wanted)
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        return refusal.code.value[0], refusal.reason, refusal.message, refusal.metadata
    return None


def test_equal_items_that_are_refused_are_judged_once(
    pair: list[Loopback], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message of a thousand items that find no place costs one verdict, until anything changes."""
    judged: list[ClusterRequest] = []

    def noted(state: Any, request: ClusterRequest, refusal: Any) -> tuple[str, str]:
        judged.append(request)
        return verdict_on(state, request, refusal)

    monkeypatch.setattr("engine.service.refusals.verdict_on", noted)
    items = [item(gpu_count=99_999, request_id=f"r{number}") for number in range(20)]
    message = pb.DeployClustersRequest(items=[*items, item(gpu_count=1), *items])
    (answer,) = batch(pair[0].client, message)
    assert len(answer.errors) == 40 and len(judged) == 2


def test_a_repeated_message_has_no_second_effect(pair: list[Loopback]) -> None:
    """Law 4: the same message again answers the same leases and changes nothing, as single calls too; the same
    key with another body is an error of its item only."""
    loopback = pair[0]
    message = pb.DeployClustersRequest(items=[item(f"k{number}", gpu_count=1) for number in range(3)])
    (first,) = batch(loopback.client, message)
    before = loopback.engine.state.hash()
    assert batch(loopback.client, message) == [first]
    assert loopback.client.deploy(key="k1", gpu_count=1).lease_id == first.lease_ids[1]
    assert loopback.engine.state.hash() == before
    message.items[1].cluster.gpu_count = 2
    (again,) = batch(loopback.client, message)
    assert [(error.index, error.reason) for error in again.errors] == [(1, "IDEMPOTENCY_KEY_REUSED")]
    assert [again.lease_ids[0], again.lease_ids[2]] == [first.lease_ids[0], first.lease_ids[2]]


def test_every_violation_of_every_item_is_named(loopback: Loopback) -> None:
    """Law 9: a bad item spoils no other, and all that is wrong with it is named with its index."""
    bad = item("\x00", gpu_count=0, min_reliability=2.0, regions=["nowhere"])
    (answer,) = batch(
        loopback.client, pb.DeployClustersRequest(items=[item(gpu_count=1), bad, pb.ClusterDeployment()])
    )
    named = {error.index: {each.field for each in error.violations} for error in answer.errors}
    assert named == {
        1: {"items[1].idempotency_key", "items[1].cluster.gpu_count", "items[1].cluster.min_reliability"},
        2: {"items[2].cluster"},
    }
    assert answer.lease_ids[0] and not answer.lease_ids[1]
    bad = pb.ClusterDeployment(idempotency_key="\x00", retry_on_loss_s=-1, lock_extension_price=True)
    for _ in range(2):
        (answer,) = batch(loopback.client, pb.DeployClustersRequest(items=[bad]))
        assert {each.field for each in answer.errors[0].violations} == named_in(bad)
        bad.cluster.CopyFrom(cluster(gpu_count=0, interruptible=True))
    unknown = pb.ClusterDeploymentSeries(deployment=item(regions=["nowhere"]), idempotency_keys=["a"])
    (answer,) = batch(loopback.client, pb.DeployClustersRequest(series=unknown))
    assert [each.field for each in answer.errors[0].violations] == ["series[0].cluster.regions[0]"]


def named_in(bad: pb.ClusterDeployment) -> set[str]:
    """What is wrong with the item."""
    wrong = ["cluster.gpu_count", "lock_extension_price"] if bad.HasField("cluster") else ["cluster"]
    return {f"items[0].{field}" for field in ("idempotency_key", "retry_on_loss_s", *wrong)}


@pytest.mark.parametrize("gpu_counts", [[], [1, 2]])
def test_a_series_without_a_cluster_leases_nothing(loopback: Loopback, gpu_counts: list[int]) -> None:
    """Law 9: numbers of GPUs do not make a cluster; nobody asked for the cheapest of all GPUs."""
    series = pb.ClusterDeploymentSeries(idempotency_keys=["a", "b"], gpu_counts=gpu_counts)
    (answer,) = batch(loopback.client, pb.DeployClustersRequest(series=series))
    named = [[(each.field, each.description) for each in error.violations] for error in answer.errors]
    assert named == [[(f"series[{index}].cluster", "is required")] for index in range(2)]
    assert not loopback.engine.state.leases


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (pb.DeployClustersRequest(), ("items",)),
        (
            pb.DeployClustersRequest(items=[item()], series=pb.ClusterDeploymentSeries(deployment=item("k"))),
            ("items", "series.idempotency_keys", "series.deployment.idempotency_key"),
        ),
        (pb.DeployClustersRequest(items=[pb.ClusterDeployment()] * (ITEMS_MAX + 1)), ("items",)),
        (
            pb.DeployClustersRequest(
                series=pb.ClusterDeploymentSeries(
                    deployment=item("k"), idempotency_keys=["a", "b"], gpu_counts=[1]
                )
            ),
            ("series.deployment.idempotency_key", "series.gpu_counts"),
        ),
    ],
)
def test_what_is_no_list_of_items_ends_the_stream(
    loopback: Loopback, message: pb.DeployClustersRequest, fields: tuple[str, ...]
) -> None:
    """Law 9: a message that says nothing that can be answered item by item is INVALID_ARGUMENT as a whole."""
    refusal = refused(batch, loopback.client, message)
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, fields)


def test_what_was_answered_survives(tmp_path: Path) -> None:
    """Law 4: a replay gives every lease that any answer named, and the same state."""
    loopback = Loopback(tmp_path / "one")
    loopback.client.load(FLEET)
    answers = batch(
        loopback.client,
        *(pb.DeployClustersRequest(items=[item(f"{part}-{n}", gpu_count=1) for n in range(4)]) for part in "ab"),
    )
    state_hash = loopback.engine.state.hash()
    loopback.close()
    again = Loopback(tmp_path / "one")
    assert again.engine.state.hash() == state_hash
    assert {lease_id for answer in answers for lease_id in answer.lease_ids} == set(again.engine.state.leases)
    again.close()


def test_kill_9_between_messages_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """Law 4: after a kill in the middle of a stream every lease that an answer named is there, and the rest of the
    stream, asked for again under its keys, gives every item exactly one lease."""
    messages = [
        pb.DeployClustersRequest(items=[item(f"{part}-{n}", gpu_count=1) for n in range(5)]) for part in range(4)
    ]
    heard: list[str] = []
    with server_process(tmp_path / "data", tmp_path / "first.log") as server:
        client = connect(server.target())
        client.load(FLEET)
        stream = ClusterServiceStub(client.channel).DeployClusters(
            iter(messages), metadata=client.metadata, timeout=TIMEOUT_S
        )
        for _ in range(2):
            heard += next(stream).lease_ids
        os.kill(server.pid, signal.SIGKILL)
        assert server.stop() == -signal.SIGKILL
        client.channel.close()
    with server_process(tmp_path / "data", tmp_path / "second.log") as server:
        client = connect(server.target())
        again = [lease_id for answer in batch(client, *messages) for lease_id in answer.lease_ids]
        assert again[: len(heard)] == heard
        listed = client.leases(page_size=1_000).leases
        assert sorted(lease.lease_id for lease in listed) == sorted(again) and len(set(again)) == 20
        client.channel.close()


def connect(target: str) -> Client:
    options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    return Client(grpc.insecure_channel(target, options=options))


def test_items_count_against_the_quota_and_come_back_typed(tmp_path: Path) -> None:
    """Law 9: what is beyond the account's quota is refused item by item, with a hint when to come back; nothing of
    it is done, and what was within it stays."""
    quotas = replace(NO_QUOTAS, calls_per_s=1, calls_burst=5)
    for loopback in running(tmp_path, quotas=quotas):
        loopback.run(_load(loopback))
        (answer,) = batch(
            loopback.client, pb.DeployClustersRequest(items=[item(f"k{n}", gpu_count=1) for n in range(8)])
        )
        assert [bool(lease_id) for lease_id in answer.lease_ids] == [n < 4 for n in range(8)]
        assert {(error.reason, error.code) for error in answer.errors} == {("CALL_QUOTA", 8)}
        assert all(error.retry_after_s > 0 for error in answer.errors)
        assert len(loopback.engine.state.leases) == 4


async def _load(loopback: Loopback) -> None:
    """The fleet, past the quota: loads are dear calls."""
    nodes = pl.DataFrame(FLEET, schema=FLEET_SCHEMA)
    loopback.engine.submit(LoadFleet(nodes, pl.DataFrame(schema=RTT_SCHEMA)), NO_STOPWATCH)


def test_a_batch_lets_others_in(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: a message of many items gives up the loop again and again, so that others are served in between."""
    monkeypatch.setattr(batched_deploys, "TURN_S", 0.0)
    monkeypatch.setattr(batched_deploys, "MANY_MAX", 2)
    turns: list[int] = []
    served = batched_deploys.BatchedDeploys._turn

    async def counted(self: Any, *arguments: Any) -> None:
        await served(self, *arguments)
        turns.append(arguments[2].count)

    monkeypatch.setattr(batched_deploys.BatchedDeploys, "_turn", counted)
    batch(loopback.client, pb.DeployClustersRequest(items=[item(gpu_count=1) for _ in range(6)]))
    assert turns == [2, 4, 6]
