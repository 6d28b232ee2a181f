"""Two engines on one PostgreSQL journal: one leads, the other follows and takes over; never two that write."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import grpc
import pytest
from walras.v1 import cluster_service_pb2

from engine.cli.main import main
from engine.domain.errors import Unavailable
from engine.journal import Following, Journal
from engine.service.engine import Engine
from engine.service.options import LedgerSettings, ServerOptions
from engine.service.replica import Replica
from engine.service.server import Server
from engine.service.verify import verify_journal
from engine.trust.audit_log import FILE_NAME, read_acts
from tests.crash.nursery import Nursery, kill
from tests.postgres import Cluster
from tests.service.loopback import (
    CHANNEL_OPTIONS,
    TIMEOUT_S,
    Book,
    Client,
    Clock,
    cluster,
    node,
    refusal_of,
    refused,
)
from tests.service.test_life import SERVING, complaints, healthy, serve

WAIT_S = 60.0
LEADER = "walras.leader"


class Running:
    """An engine in a process of its own, and a client of it."""

    def __init__(self, pid: int, target: str) -> None:
        self.pid, self.target = pid, target
        self.channel = grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        self.client = Client(self.channel)

    @property
    def leads(self) -> bool:
        assert healthy(self.channel) == SERVING, "whatever its role"
        return healthy(self.channel, LEADER) == SERVING

    def wait_to_lead(self) -> float:
        """How long it took."""
        since_s = time.monotonic()
        while not self.leads:
            assert time.monotonic() - since_s < WAIT_S
            time.sleep(0.05)
        return time.monotonic() - since_s

    def wait_to_know(self, lease: str) -> None:
        ends_s = time.monotonic() + WAIT_S
        while time.monotonic() < ends_s:
            with suppress(grpc.RpcError):  # one that was deposed answers nothing until it has replayed
                if lease in {each.name for each in self.client.leases().leases}:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{lease} never came")


@pytest.fixture
def url(postgres: Cluster) -> str:
    return postgres.new_url()


@pytest.fixture
def pair(url: str, tmp_path: Path, servers: Nursery) -> Iterator[tuple[Running, Running]]:
    """(leader, follower)."""
    leader, follower = (Running(*servers.start(tmp_path / name, database_url=url)) for name in ("one", "two"))
    yield leader, follower
    for replica in (leader, follower):
        replica.channel.close()
        kill(replica.pid)


def test_leading_following_pausing_and_dying(
    pair: tuple[Running, Running], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Laws 1 and 4 over the life of a pair: in this order, as each step needs the one before."""
    leader, follower = pair
    assert leader.leads and not follower.leads
    leader.client.load([node(f"n{number}") for number in range(4)])
    first = leader.client.deploy(gpu_count=4, key="first")

    # The follower serves reads and turns changes away, with the leader's address.
    follower.wait_to_know(first.name)
    assert follower.client.lease(first.name) == leader.client.lease(first.name)
    assert follower.client.price(gpu_model="H100", region="us-east", security_tier="SECURE")
    assert follower.client.explain(gpu_count=4).feasible
    for call in (follower.client.deploy, follower.client.quote, lambda: follower.client.load([node("n9")])):
        refusal = refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
        assert refusal.metadata == {"leader": leader.target}

    # The command line goes where it is sent.
    asked = ["deploy", "--gpu-count", "2", "--tenant", "alice", "--json", "--target", follower.target]
    assert main(asked) == 0
    assert '"lease_id"' in capsys.readouterr().out

    # A paused leader: the other takes over; the old one's calls, begun before or after, change nothing.
    os.kill(leader.pid, signal.SIGSTOP)
    try:
        waiting = [deploying(leader.client, gpu_count=8) for _ in range(3)]
        follower.wait_to_lead()
        again = follower.client.deploy(gpu_count=4, key="first")
        assert again.name == first.name, "an acknowledged call is known by its key"
        second = follower.client.deploy(gpu_count=8)
    finally:
        os.kill(leader.pid, signal.SIGCONT)
    for call in waiting:
        with pytest.raises(grpc.RpcError) as caught:
            call.result(TIMEOUT_S)
        assert refusal_of(caught.value).code is grpc.StatusCode.UNAVAILABLE
    leader.wait_to_know(second.name)
    assert not leader.leads and follower.leads
    assert leader.client.stats().gpus_leased == follower.client.stats().gpus_leased == 14
    while not (named := refused(leader.client.deploy).metadata):
        time.sleep(0.05)  # on a busy machine a lease may just have run out
    assert named == {"leader": follower.target}

    # A killed leader: the one that was deposed leads again.
    os.kill(follower.pid, signal.SIGKILL)
    leader.wait_to_lead()
    assert {lease.name for lease in leader.client.leases().leases} >= {first.name, second.name}
    assert leader.client.deploy(gpu_count=1).name
    assert verify_journal(url).gpus_leased == 15


def test_a_follower_that_cannot_use_what_it_reads_answers_nothing(url: str) -> None:
    """Law 4: an entry is no event of this version, half of a batch may be applied: no read shows that state."""

    async def run() -> None:
        with Journal.open_at(url, lease_s=60) as leader:
            engine = Engine(Following.open_url(url), Book(), Clock())
            replica = Replica(engine, url, 60)
            assert await replica.step() and await engine.read(lambda state: state.version) == 0
            leader.append([b"of a later version"], 1).result()
            for _ in range(2):
                assert not await replica.step()
                with pytest.raises(Unavailable, match="cannot follow"):
                    await engine.read(lambda state: state.version)
            engine.close()

    asyncio.run(run())


@pytest.mark.parametrize("leads", [True, False])
def test_who_leads_sets_the_rules_of_the_ledger(url: str, tmp_path: Path, leads: bool) -> None:
    """Law 4: whoever takes over brings the rules of its own options; a follower records nothing."""

    async def run() -> None:
        options = ServerOptions(
            listen="127.0.0.1:0",
            data_dir=tmp_path,
            database_url=url,
            dev=True,
            oracle_tick_s=0,
            ledger=LedgerSettings(burn_ppm=7),
        )
        engine = Engine(Following.open_url(url), Book(), Clock())
        replica = Replica(engine, url, 60)
        server = Server(engine, options, replica=replica)
        await server.start()
        while engine.leads is not leads:  # a busy database may refuse the first try
            await replica.step()
        engine.end_due(engine.now_us() + 10**15)
        books = engine.state.books
        assert (engine.leads, books.opened, books.rules.burn_ppm) == (leads, leads, 7 * leads)
        await server.drain(0)
        engine.close()

    with nullcontext() if leads else Journal.open_at(url, lease_s=60):
        asyncio.run(run())


def test_two_engines_do_not_share_an_audit_log(url: str, tmp_path: Path, servers: Nursery) -> None:
    """Engines of one database in one directory would break the chain of their audit log: the second is exit 3 and
    one line that names the file and the way out, and the first one's log stays proven."""
    first = Running(*servers.start(tmp_path / "one", database_url=url, data_dir=str(tmp_path)))
    try:
        config = tmp_path / "walras.toml"
        config.write_text(f'database_url = "{url}"\ndata_dir = "{tmp_path}"\n', encoding="utf-8")
        second = serve("--listen", "127.0.0.1:0", "--config", str(config))
        assert (second.returncode, second.stdout) == (3, ""), second
        (line,) = complaints(second.stderr)
        assert line.startswith("UNAVAILABLE: ")
        assert str(tmp_path / FILE_NAME) in line and str(first.pid) in line and "data_dir" in line
        first.client.load([node("n1")])
        assert [act["method"] for act in read_acts(tmp_path / FILE_NAME)] == ["FleetService/LoadFleet"]
    finally:
        first.channel.close()
        kill(first.pid)


def deploying(client: Client, **fields: object) -> grpc.Future:
    """A deployment under way."""
    request = cluster_service_pb2.DeployClusterRequest(cluster=cluster(**fields))
    return client._clusters.DeployCluster.future(request, metadata=client.metadata, timeout=TIMEOUT_S)
