"""Nobody starves what is not theirs: quotas, shedding, hoarding, and calls that are too much (law 9)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import polars as pl
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import Overloaded, Unavailable
from engine.domain.tables import FLEET_SCHEMA
from engine.market.apply import apply
from engine.market.commands import HoldLimits, IssueQuote, LoadFleet
from engine.market.decide import decide
from engine.market.state import MarketState
from engine.service.acts import Acts
from engine.service.load_pace import TURNS, LoadPace
from engine.service.options import LedgerSettings
from engine.trust.audit_log import FILE_NAME, read_acts
from engine.trust.quotas import NO_QUOTAS, Quotas
from solvers.pools import END, GPU_COUNT, START
from tests.full_size import size
from tests.service.access_world import AccessWorld
from tests.service.credentials import Bearer, auth_options
from tests.service.loopback import (
    CHANNEL_OPTIONS,
    TIMEOUT_S,
    Book,
    Loopback,
    load_chunks,
    node,
    refused,
    small_fleet,
)
from tests.trust.issuer import Issuer, bad_tokens

Status = grpc.StatusCode
TIGHT = Quotas(
    calls_per_s=1,
    calls_burst=20,
    running_max=4,
    waiting_max=4,
    streams_max=2,
    failed_proofs_per_s=1,
    visits_per_s=1,
)


class Small(Loopback):
    """An engine with tokens and quotas that are soon used up."""

    def __init__(self, folder: Path, quotas: Quotas = TIGHT, **options: Any) -> None:
        self.issuer = Issuer()
        options |= {"ledger": LedgerSettings(require_deposit=False), **auth_options(self.issuer, folder)}
        super().__init__(folder / "data", dev=False, quotas=quotas, **options)
        self.bearer("operator", "root").load(small_fleet())

    def bearer(self, role: str, name: str, **changes: Any) -> Bearer:
        return Bearer(self.channel, self.issuer.token(role, name, **changes))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    engine = Small(tmp_path)
    yield engine
    engine.close()


def until_refused(call: Any, most: int = 200) -> tuple[int, grpc.RpcError]:
    """(calls that were served, the error that ended them)."""
    for served in range(most):
        try:
            call()
        except grpc.RpcError as error:
            return served, error
    raise AssertionError(f"{most} calls and none was refused")


def retry_after_s(error: Any) -> float:
    hint = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    assert status is not None and any(detail.Unpack(hint) for detail in status.details)
    return float(hint.retry_delay.ToTimedelta().total_seconds())


def test_a_quota_ends_one_account_only(small: Small) -> None:
    """Beyond its quota a tenant gets RESOURCE_EXHAUSTED with a hint; others, and health, notice nothing."""
    flood = small.bearer("tenant", "mallory")
    served, error = until_refused(flood.leases)
    assert served <= 20 and error.code() is Status.RESOURCE_EXHAUSTED
    assert 0 < retry_after_s(error) <= 5
    assert refused(small.bearer("tenant", "mallory").stats).reason == "CALL_QUOTA", (
        "a second token is the same account"
    )
    assert small.bearer("tenant", "alice").deploy(gpu_count=1)
    health = health_pb2_grpc.HealthStub(small.channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_floods_of_questions_that_need_no_credential(small: Small) -> None:
    """Health and reflection are open, and bounded for each host: half-open, endless and garbage questions end."""
    stub = health_pb2_grpc.HealthStub(small.channel)
    ask = partial(stub.Check, health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    served, error = until_refused(ask, 20_000)
    assert served >= 10 and error.code() is Status.RESOURCE_EXHAUSTED and retry_after_s(error) > 0
    assert small.bearer("tenant", "alice").deploy(gpu_count=1)


@pytest.mark.parametrize("method", ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"])
def test_garbage_for_health(world: AccessWorld, method: str) -> None:
    """INVALID_ARGUMENT there, too, and no Python text."""
    kind = world.channel.unary_stream if method.endswith("Watch") else world.channel.unary_unary
    call = kind(f"/{method}", request_serializer=bytes, response_deserializer=bytes)
    answer = refused(lambda: list(call(b"\x0a\xff\x01abc", timeout=TIMEOUT_S)))
    assert (answer.code, answer.fields) == (Status.INVALID_ARGUMENT, ("request",))


def test_streams_of_an_account_are_bounded(small: Small) -> None:
    """Half-open streams: beyond `streams_max` an account opens no more; ending one makes room."""
    client = small.bearer("tenant", "alice")
    watches = [client.watch() for _ in range(2)]
    for watch in watches:
        next(watch)
    assert refused(next, client.watch()).reason == "STREAM_QUOTA"
    watches[0].cancel()
    with pytest.raises(grpc.RpcError):
        list(watches[0])
    next(small.bearer("tenant", "bob").watch())
    watches[1].cancel()


def test_bad_credentials_of_a_host_are_not_all_looked_at(small: Small) -> None:
    """A flood of forged tokens is cut off; who is known already goes on, from the same host."""
    known = small.bearer("tenant", "alice")
    known.leases()
    forged = bad_tokens(small.issuer, "tenant", "mallory")["another key under a known id"]
    for _ in range(200):
        answer = refused(Bearer(small.channel, forged).leases)
        if answer.code is Status.RESOURCE_EXHAUSTED:
            break
        assert answer.code is Status.UNAUTHENTICATED
    assert answer.reason == "CREDENTIAL_QUOTA"
    known.leases()


def test_the_audit_log_says_who_did_what(small: Small) -> None:
    """Changes and refused credentials are in it, with the credential's id and never the credential."""
    alice = small.bearer("tenant", "alice", jti="laptop")
    lease = alice.deploy(gpu_count=1)
    refused(small.bearer("tenant", "bob", jti="other").release, lease.name)
    refused(alice.set_state, "nodes/h1", "DOWN")
    expired = bad_tokens(small.issuer, "tenant", "alice")["expired"]
    refused(Bearer(small.channel, expired).leases)
    alice.leases()
    acts = list(read_acts(small.data_dir / FILE_NAME))
    seen = [
        (act["account"], act["credential"], act["method"].partition("/")[2], act["object"], act["outcome"])
        for act in acts
    ]
    assert seen[1:] == [
        ("alice", "laptop", "DeployCluster", lease.name, "OK"),
        ("bob", "other", "ReleaseLease", lease.name, "NOT_FOUND"),
        ("alice", "laptop", "SetNodeState", "nodes/h1", "PERMISSION_DENIED"),
        ("", "", "ListLeases", "", "UNAUTHENTICATED"),
    ]
    assert seen[0][0] == "operator:root"
    text = (small.data_dir / FILE_NAME).read_text(encoding="utf-8")
    assert str(alice.token) not in text and str(alice.token).split(".")[2] not in text


def test_hoarders_keep_no_more_than_the_share_of_any_pool() -> None:
    """1,000 tenants that hold all they are given hold at most the configured share of each pool, at any moment."""
    limits = HoldLimits(pool_share_max=0.3, pool_gpus_free_of_limit=0)
    state, tenants, now_us = MarketState(), size(200, 1_000), 1_700_000_000_000_000
    rows = [
        node(f"n{i}", site_id=("iad1", "sfo1", "fra1")[i % 3], gpu_model=("H100", "A100")[i % 2])
        for i in range(600)
    ]
    rtt = pl.DataFrame(schema={"site_a": pl.String(), "site_b": pl.String(), "rtt_ms": pl.Float64()})
    run(state, LoadFleet(pl.DataFrame(rows, schema=FLEET_SCHEMA), rtt), now_us)
    held = 0
    for number in range(tenants * 4):
        model, site = ("H100", "A100")[number % 2], ("iad1", "sfo1", "fra1")[number // 2 % 3]
        gpus = (1, 2, 8, 16)[number // 6 % 4]
        wanted = ClusterRequest(gpu_count=gpus, duration_s=3_600, gpu_models=(model,), sites=(site,))
        try:
            run(state, IssueQuote(f"hoarder-{number % tenants}", wanted, 3_600, hold=limits), now_us + number)
            held += wanted.gpu_count
        except Overloaded:
            continue
        assert (shares(state) <= 0.3).all()
    assert held >= 0.25 * 4_800, "the test would otherwise prove nothing"


def run(state: MarketState, command: Any, now_us: int) -> None:
    for event in decide(state, command, now_us, Book()):
        apply(state, event)


def shares(state: MarketState) -> Any:
    """Held GPUs of each pool over its GPUs."""
    pools = state.inventory.pools
    sizes = (pools.table[:, END] - pools.table[:, START]) * pools.table[:, GPU_COUNT]
    held = np.add.reduceat(state.inventory.held[pools.node], pools.table[:, START])
    return held / sizes


def test_registration_floods_leave_the_loop_to_others(small: Small) -> None:
    """A supplier that loads again and again is told to wait; tenants notice nothing."""
    flood = small.bearer("supplier", "acme")
    served, error = until_refused(lambda: flood.load([node("h1")]))
    assert served <= 2 and error.code() is Status.RESOURCE_EXHAUSTED
    assert retry_after_s(error) > 0
    assert small.bearer("tenant", "alice").deploy(gpu_count=1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.001, 1.0), st.floats(0.0, 3.0)), max_size=80))
def test_suppliers_loads_hold_a_share_of_the_loop(loads: list[tuple[str, float, float]]) -> None:
    """However suppliers load, their loads hold the loop for a tenth of the time, and none takes every turn."""
    now_s, held_s, last = [0.0], 0.0, ("", 0.0)
    pace = LoadPace(lambda: now_s[0], 0.1)
    for account, takes_s, after_s in loads:
        now_s[0] += after_s
        try:
            with pace.receiving(account):
                pace.check(account)
        except Overloaded as refusal:
            assert refusal.reason == "REGISTRATION_BUSY" and refusal.retry_after_s > 0
            continue
        assert held_s <= 0.1 * now_s[0] + 1e-9
        assert account != last[0] or now_s[0] >= last[1]
        held_s, last = held_s + takes_s, (account, now_s[0] + TURNS * takes_s / 0.1)
        pace.done(account, takes_s)
    pace.check(None)


def test_a_load_that_never_ends(tmp_path: Path) -> None:
    """Half-open streams: a load whose caller falls silent ends at the deadline and leaves its place to others."""
    engine = Small(tmp_path, NO_QUOTAS, deadline_s_max=0.5)
    try:
        silent, supplier = threading.Event(), engine.bearer("supplier", "acme")

        def chunks() -> Iterator[Any]:
            yield load_chunks([node("h1")])[0]
            silent.wait(TIMEOUT_S)

        assert refused(supplier.load_messages, chunks()).code is Status.DEADLINE_EXCEEDED
        silent.set()
        assert supplier.load([node("h1")]).nodes_updated == 1
    finally:
        engine.close()


def test_slow_readers_hold_nobody_up(tmp_path: Path) -> None:
    """Slow readers: watches that nobody reads are open while others deploy, and end at their deadline."""
    engine = Small(tmp_path, NO_QUOTAS, deadline_s_max=5.0)
    try:
        reader = engine.bearer("tenant", "sloth")
        watches = [reader.watch() for _ in range(50)]
        client = engine.bearer("tenant", "alice")
        for _ in range(20):
            client.release(client.deploy(gpu_count=1).name)
        for watch in watches:
            watch.cancel()
    finally:
        engine.close()


def test_a_torn_or_changed_audit_log(tmp_path: Path) -> None:
    """A line cut short by a power failure is taken off at the next start; any other change is found by reading."""
    from engine.domain.errors import InvalidInput
    from engine.trust.audit_log import Act, AuditLog

    def write(count: int) -> None:
        log = AuditLog(tmp_path, lambda: 0.0)
        for number in range(count):
            log.note(Act(number, "a", "c", "h", "m", "o", "OK"))
        log.close()
        log.close()

    path = tmp_path / FILE_NAME
    write(3)
    path.write_bytes(path.read_bytes() + b'{"at_us": 12')
    write(2)
    assert [act["at_us"] for act in read_acts(path)] == [0, 1, 2, 0, 1]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for changed in (
        [*lines[:1], lines[1].replace('"a"', '"b"'), *lines[2:]],
        [*lines[:1], *lines[2:]],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:2], "garbage\n"],
    ):
        path.write_text("".join(changed), encoding="utf-8")
        with pytest.raises(InvalidInput):
            list(read_acts(path))
    assert json.loads(lines[0])["left_out"] == 0


def test_an_audit_log_has_one_writer(tmp_path: Path) -> None:
    """Lines of two engines in turn would not follow from each other: whoever comes second is told so, and may when
    the first one is gone."""
    for _ in range(2):
        with closing(Acts(tmp_path / "new" / "data", lambda: 0.0, lambda: 1)) as first:
            with pytest.raises(Unavailable, match=rf"writes .*{FILE_NAME}; give this one a data_dir of its own"):
                Acts(tmp_path / "new" / "data", lambda: 0.0, lambda: 1)
            pending = first.begin("ClusterService/DeployCluster", "ipv4:127.0.0.1:1")
            first.note(pending, "leases/l-1", grpc.StatusCode.OK)
    assert len(list(read_acts(tmp_path / "new" / "data" / FILE_NAME))) == 2


def test_failures_are_counted_beyond_a_rate(tmp_path: Path) -> None:
    """A flood of refusals does not fill the disk, and is not hidden either."""
    from engine.trust.audit_log import Act, AuditLog

    log = AuditLog(tmp_path, lambda: 0.0)
    for _ in range(5_000):
        log.note(Act(1, "", "", "h", "m", "", "UNAUTHENTICATED"))
    log.note(Act(2, "a", "c", "h", "m", "o", "OK"))
    log.close()
    acts = list(read_acts(tmp_path / FILE_NAME))
    assert len(acts) == 101 and acts[-1]["left_out"] == 4_900


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessWorld]:
    world = AccessWorld(tmp_path_factory.mktemp("abuse"))
    yield world
    world.close()


def test_calls_that_are_reset_at_once(world: AccessWorld) -> None:
    """Rapid resets: their connection is refused streams by HTTP/2 itself; other connections notice nothing."""
    alone = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(world.target, options=alone) as channel:
        path = "/walras.v1.ClusterService/ListLeases"
        call = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        for number in range(2_000):
            call.future(b"", metadata=world.mine.metadata, timeout=TIMEOUT_S).cancel()
            if number % 100 == 0:
                world.mine.leases()
    world.mine.release(world.mine.deploy(gpu_count=1, gpu_models=["A100"]).name)


def test_headers_beyond_the_limit(world: AccessWorld) -> None:
    """20 KB of metadata are refused before anything reads them, and the connection's other calls go on."""
    greedy = Bearer(world.channel, world.issuer.token("tenant", "alice"), **{"x-fill": "y" * 20_000})
    for _ in range(3):
        assert refused(greedy.leases).code is Status.RESOURCE_EXHAUSTED
        world.mine.leases()


def test_operators_ask_the_audit_log(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    """`walras audit` filters by account, credential, object and method, and stops at a line that was changed."""
    from engine.cli.main import main

    alice = small.bearer("tenant", "alice", jti="laptop")
    names = [alice.deploy(gpu_count=1).name for _ in range(2)]
    alice.release(names[0])
    data = ["audit", "--data-dir", str(small.data_dir)]

    def lines(*filters: str) -> list[str]:
        assert main([*data, *filters]) == 0
        return capsys.readouterr().out.splitlines()

    assert len(lines()) == 4
    assert len(lines("--account", "alice")) == len(lines("--credential", "laptop")) == 3
    assert len(lines("--object", names[0])) == 2
    (released,) = lines("--method", "ReleaseLease", "--json")
    assert json.loads(released)["object"] == names[0]
    assert not lines("--since-us", str(2**60))
    path = small.data_dir / FILE_NAME
    path.write_text(path.read_text(encoding="utf-8").replace("laptop", "elsewhere"), encoding="utf-8")
    assert main(data) == 2
