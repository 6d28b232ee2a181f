"""Interruptible work in a running engine: the oracle prices it, shows it, gives notice, survives restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from walras.v1 import cluster_service_pb2 as pb

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import NotFound
from engine.journal import replay_files
from engine.service.engine import replayed
from engine.service.fleet_access import known_ids, known_node
from engine.service.fleet_service import GET_NODE
from engine.service.options import default_parameters
from engine.trust.principal import Principal, Role
from tests.service.loopback import Client, Loopback, cluster, node, refused, running

TENANTS = ("alice", "bob", "carol", "dave")
EAST = {"gpu_models": ["H100"], "regions": ["us-east"]}
H100 = {"gpu_model": "H100", "region": "us-east", "security_tier": "SECURE"}
WORK = {**EAST, "gpu_count": 8, "duration_s": 7_200, "interruptible": True}


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    """Cheap asks, and an oracle that takes every wish at its full size."""
    oracle = replace(default_parameters(()), wish_share=1.0)
    for each in running(tmp_path / "engine", oracle=oracle, interruptible_notice_s=60):
        each.client.load([node(f"h{number}", ask_micro_usd_per_gpu_hour=500_000) for number in range(4)])
        yield each


def compete(client: Client, price: int) -> None:
    """Four tenants want far more than there is, at this price."""
    for tenant in TENANTS:
        client.as_tenant(tenant).quote(
            **EAST, gpu_count=16, duration_s=400_000, max_price_micro_usd_per_gpu_hour=price
        )


def price_of(client: Client) -> Any:
    return client.price(**H100)


def test_idle_gpus_are_sold_below_the_posted_price(loopback: Loopback) -> None:
    """Law (3.5): where nothing is scarce interruptible work pays the floor, and every answer says so."""
    client = loopback.client
    loopback.epoch()
    shown = price_of(client).interruptible_price_micro_usd_per_gpu_hour
    assert shown == price_of(client).floor_micro_usd_per_gpu_hour
    assert 500_000 < shown < price_of(client).posted_price_micro_usd_per_gpu_hour
    lease = client.deploy(**WORK)
    assert lease.price.total_micro_usd == 2 * 8 * shown == client.quote(**WORK).price.total_micro_usd
    assert lease.certificate.optimal
    assert client.indicative(**WORK).price.total_micro_usd == 2 * 8 * shown
    low = {**WORK, "max_price_micro_usd_per_gpu_hour": shown - 1}
    (way_out,) = refused(client.deploy, **low).explanation.relaxations
    assert (way_out.to_value, way_out.total_micro_usd) == (str(shown), 2 * 8 * shown)
    assert client.deploy(**{**low, "max_price_micro_usd_per_gpu_hour": shown}).price == lease.price


def test_scarcity_gives_notice_and_ends_it(loopback: Loopback, reopened: Callable[[], Client]) -> None:
    """Laws (3.5) and 4: outbid by the demand of others; the notice is 60 s, survives a restart, and is kept."""
    client = loopback.client
    loopback.epoch()
    lease = client.deploy(**WORK, max_price_micro_usd_per_gpu_hour=2_000_000)
    kept = client.deploy(**WORK, max_price_micro_usd_per_gpu_hour=3_000_000)
    compete(client, 2_900_000)
    loopback.epoch()
    assert price_of(client).interruptible_price_micro_usd_per_gpu_hour == 2_900_000
    told = client.lease(lease.name)
    assert (told.state, told.end_reason, told.fencing_epoch) == (told.STATE_RECLAIMING, "OUTBID", 2)
    assert told.reclaim_time_us == loopback.clock.now_us + 60_000_000
    assert lease.name in [each.name for each in client.leases().leases]
    assert refused(client.extend, lease.name).reason == "LEASE_RECLAIMING"
    dearer = client.lease(kept.name)
    assert (dearer.state, dearer.price.rate_micro_usd_per_hour) == (dearer.STATE_ACTIVE, 8 * 2_900_000)
    assert sum(line.amount_micro_usd for line in dearer.price.lines) == dearer.price.total_micro_usd
    before = loopback.hash()
    again = reopened()
    state, _ = replayed(replay_files(loopback.data_dir))
    assert state.hash() == before
    loopback.clock.advance_s(60)
    ended = again.lease(lease.name)
    assert (ended.state, ended.end_reason, ended.end_time_us) == (
        ended.STATE_ENDED,
        "OUTBID",
        told.reclaim_time_us,
    )
    used_s = (ended.end_time_us - ended.start_time_us) // 1_000_000
    assert abs(ended.charged_micro_usd - ended.price.rate_micro_usd_per_hour * used_s / 3_600) <= 1


def test_its_tenant_knows_its_nodes_until_it_ends(loopback: Loopback) -> None:
    """Law 8: a tenant sees the nodes of a lease as long as it runs and is paid for, through a notice too."""
    loopback.epoch()
    lease = loopback.client.deploy(**WORK, max_price_micro_usd_per_gpu_hour=2_000_000)
    tenants = frozenset({Role.TENANT})
    alice, bob = (Principal(tenants, name, "proof", math.inf) for name in ("alice", "bob"))
    state, place = loopback.engine.state, lease.placement.node_ids
    assert known_ids(state, alice) == place
    compete(loopback.client, 2_900_000)
    loopback.epoch()
    assert loopback.client.lease(lease.name).state == pb.Lease.STATE_RECLAIMING
    assert known_ids(state, alice) == place and known_ids(state, bob) == []
    assert state.inventory.node_ids[known_node(state, alice, GET_NODE, place[0])] == place[0]
    loopback.client.release(lease.name)
    assert known_ids(state, alice) == []
    with pytest.raises(NotFound):
        known_node(state, alice, GET_NODE, place[0])


def test_on_demand_work_takes_nothing_from_it(loopback: Loopback) -> None:
    """Law 1: full is full, whoever asks; only a price gives notice."""
    client = loopback.client
    loopback.epoch()
    lease = client.deploy(**{**WORK, "gpu_count": 32})
    assert refused(client.deploy, **EAST, gpu_count=1).reason == "NO_CAPACITY"
    assert client.lease(lease.name).state == lease.STATE_ACTIVE


def test_what_waits_on_demand_gets_room(loopback: Loopback) -> None:
    """Law (3.5): after an epoch the lower bids get notice, as many as must; a second epoch gives no second one."""
    client = loopback.client
    loopback.epoch()
    bids = {bid: client.deploy(**WORK, max_price_micro_usd_per_gpu_hour=bid) for bid in (2_100_000, 2_000_000)}
    client.deploy(**{**WORK, "gpu_count": 16})
    request = ClusterRequest(gpu_count=8, gpu_models=("H100",), max_price_micro_usd_per_gpu_hour=2_900_000)
    loopback.server.oracle._waiting = lambda _: [request]
    for _ in range(2):
        loopback.epoch(after_s=300 if _ == 0 else 30)
        states = {bid: client.lease(lease.name).state for bid, lease in bids.items()}
        assert states == {2_100_000: pb.Lease.STATE_ACTIVE, 2_000_000: pb.Lease.STATE_RECLAIMING}
    loopback.clock.advance_s(30)
    assert client.deploy(**EAST, gpu_count=8).state == pb.Lease.STATE_ACTIVE


def test_its_price_cannot_be_locked(loopback: Loopback) -> None:
    """Law 9: what is priced anew at every epoch has no price to lock."""
    told = refused(loopback.client.deploy_message, cluster=cluster(**WORK), lock_extension_price=True)
    assert told.fields == ("lock_extension_price",)
