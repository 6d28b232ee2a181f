"""Held quotes over gRPC: nothing is sold twice, holds end exactly once, limits are typed, restarts keep holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.journal import replay_files
from engine.market.commands import HoldLimits
from engine.service.engine import replayed
from tests.service.loopback import Client, Loopback, node, refused, running

EAST = {"gpu_models": ["H100"], "regions": ["us-east"], "gpu_count": 16}


def counts(client: Client) -> tuple[int, int, int]:
    """(free, held, leased) GPUs, after law 1 was checked on the rest."""
    stats = client.stats()
    parts = stats.gpus_free + stats.gpus_held + stats.gpus_leased + stats.gpus_draining + stats.gpus_dead
    assert parts + stats.gpus_used_outside == stats.gpus_registered, "law 1"
    return stats.gpus_free, stats.gpus_held, stats.gpus_leased


def test_held_gpus_are_nobody_elses(client: Client) -> None:
    """Law 1: while a quote holds GPUs, no deployment or quote gets them; its own lease does, as shown."""
    free = counts(client)[0]
    quote = client.quote(**EAST, hold=True)
    assert (quote.hold, quote.state, counts(client)) == (True, "OPEN", (free - 16, 16, 0))
    for taker in (client, client.as_tenant("bob")):
        assert refused(taker.deploy, **EAST).code is grpc.StatusCode.FAILED_PRECONDITION
        assert refused(taker.quote, **EAST).code is grpc.StatusCode.FAILED_PRECONDITION
    assert client.node("nodes/h1").gpu_held == 8
    lease = client.deploy_quote(quote.name)
    assert (lease.placement, lease.price) == (quote.placement, quote.price)
    assert counts(client) == (free - 16, 0, 16)
    after = client.get_quote(quote.name)
    assert (after.state, after.lease) == ("DEPLOYED", lease.name)
    client.release(lease.name)
    assert counts(client) == (free, 0, 0)


@pytest.mark.parametrize("early_us", [1, 0])
def test_a_hold_ends_at_its_ttl(loopback: Loopback, early_us: int) -> None:
    """Law 5: capacity is held up to the microsecond before the end, and free from then on."""
    client, free = loopback.client, counts(loopback.client)[0]
    quote = client.quote(**EAST, hold=True, ttl_s=60)
    loopback.clock.now_us = quote.expire_time_us - early_us
    held = 16 if early_us else 0
    assert counts(client) == (free - held, held, 0)
    assert client.get_quote(quote.name).state == ("OPEN" if early_us else "EXPIRED")
    if not early_us:
        assert refused(client.deploy_quote, quote.name).reason == "QUOTE_EXPIRED"
        client.deploy(**EAST)


def test_a_hold_is_released_once(client: Client) -> None:
    """Law 5: a released hold gives back its GPUs once, cannot be deployed; a second release changes nothing."""
    free = counts(client)[0]
    quote = client.quote(**EAST, hold=True)
    assert client.release_quote(quote.name, key="k").state == "RELEASED"
    assert counts(client) == (free, 0, 0)
    version = client.stats().state_version
    assert client.release_quote(quote.name).state == "RELEASED"
    assert client.release_quote(quote.name, key="k").state == "RELEASED"
    assert (client.stats().state_version, counts(client)) == (version, (free, 0, 0))
    assert refused(client.deploy_quote, quote.name).reason == "QUOTE_RELEASED"


def test_a_used_quote_is_not_released(client: Client) -> None:
    """Law 5: deploying ends the hold; releasing the quote afterwards leaves the lease alone."""
    quote = client.quote(**EAST, hold=True)
    lease = client.deploy_quote(quote.name)
    assert client.release_quote(quote.name).state == "DEPLOYED"
    assert client.lease(lease.name).state == lease.state
    assert counts(client)[1:] == (0, 16)


def test_foreign_quotes_are_missing_ones(client: Client) -> None:
    """Law 8: another tenant can neither see nor release nor deploy a quote, and learns nothing of it."""
    quote = client.quote(**EAST, hold=True)
    bob = client.as_tenant("bob")
    for call in (bob.get_quote, bob.release_quote, bob.deploy_quote):
        foreign, missing = refused(call, quote.name), refused(call, "quotes/q-0000099999")
        assert foreign.code is missing.code is grpc.StatusCode.NOT_FOUND
    assert counts(client)[1] == 16


def test_a_held_node_that_is_not_ready(client: Client) -> None:
    """Law 3: a hold does not overrule a node that went down; released, its GPUs count as the node's state."""
    quote = client.quote(**EAST, hold=True)
    client.set_state("nodes/h1", "DOWN")
    assert refused(client.deploy_quote, quote.name).reason == "QUOTE_CAPACITY_GONE"
    client.release_quote(quote.name)
    assert client.stats().gpus_dead == 8


def test_a_held_node_that_comes_back(client: Client) -> None:
    """Law 5: while a held node is down nobody takes its GPUs, and the refusal says so; READY again, it is good."""
    quote = client.quote(**EAST, hold=True)
    client.set_state("nodes/h1", "DOWN")
    told = refused(client.deploy_quote, quote.name).message
    assert "nodes/h1 is DOWN;" in told and "taken" not in told
    client.set_state("nodes/h1", "READY")
    assert client.deploy_quote(quote.name).gpu_count == 16


def test_a_load_keeps_holds(client: Client) -> None:
    """Law 1: a load may not take GPUs from under a hold, and keeps what is held."""
    client.quote(**EAST, hold=True)
    assert "nodes/h1" in refused(client.load, [node("h1", gpu_free=0)]).fields
    client.load([node("h9")])
    assert counts(client)[1] == 16


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Loopback]:
    limits = HoldLimits(tenant_gpus_max=16, tenant_quotes_max=3, pool_share_max=0.5, pool_gpus_free_of_limit=0)
    for loopback in running(tmp_path / "tight", holds=limits):
        loopback.client.load([node(f"n{number}") for number in range(8)])
        yield loopback


def limited(refusal: Any, reason: str) -> None:
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED, refusal
    assert refusal.reason == reason


def test_limits_of_a_tenant(tight: Loopback) -> None:
    """Law 9: GPUs and quotes held by one tenant are bounded, typed, and only its own count."""
    client = tight.client
    limited(refused(client.quote, gpu_count=17, hold=True), "HOLD_LIMIT_TENANT")
    for _ in range(3):
        client.quote(gpu_count=1, hold=True)
    limited(refused(client.quote, gpu_count=1, hold=True), "HOLD_LIMIT_TENANT")
    client.quote(gpu_count=1)
    client.as_tenant("bob").quote(gpu_count=1, hold=True)


def test_limit_of_a_pool(tight: Loopback) -> None:
    """Law 9: all tenants together hold at most a share of a pool; what ends makes room."""
    client, bob, eve = tight.client, tight.client.as_tenant("bob"), tight.client.as_tenant("eve")
    first = client.quote(gpu_count=16, hold=True)
    bob.quote(gpu_count=16, hold=True)
    limited(refused(eve.quote, gpu_count=1, hold=True), "HOLD_LIMIT_POOL")
    client.release_quote(first.name)
    eve.quote(gpu_count=16, hold=True)


def test_restart_keeps_holds(loopback: Loopback, reopened: Callable[[], Client]) -> None:
    """Law 4: after a restart the hold stands, the state is the same byte for byte, and the hold ends as agreed."""
    quote, before = loopback.client.quote(**EAST, hold=True), loopback.hash()
    client = reopened()
    state, _ = replayed(replay_files(loopback.data_dir))
    assert (counts(client)[1], state.hash()) == (16, before)
    assert client.get_quote(quote.name) == quote
    lease = client.deploy_quote(quote.name)
    assert lease.price == quote.price


def test_a_repeated_hold_holds_once(client: Client) -> None:
    """Law 5: the same key gives the same quote and no second hold."""
    first, second = (client.quote(**EAST, hold=True, key="once") for _ in range(2))
    assert first == second
    assert counts(client)[1] == 16
