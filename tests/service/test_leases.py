"""The life of a lease: what it costs, when it ends, which nodes it may use (laws 1, 3 and 5)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import grpc
import pytest

from tests.service.loopback import POSTED_MICRO_USD, Client, Loopback, node, refused, small_fleet

GPUS = 44
HOUR_US = 3_600_000_000
EAST = {"gpu_models": ["H100"], "regions": ["us-east"]}


def assert_counts_add_up(client: Client) -> Any:
    """Law 1: free + held + leased + draining + dead + used outside = registered, and nodes agree with the sums."""
    stats = client.stats()
    parts = (
        stats.gpus_free,
        stats.gpus_held,
        stats.gpus_leased,
        stats.gpus_draining,
        stats.gpus_dead,
        stats.gpus_used_outside,
    )
    assert min(parts) >= 0
    assert sum(parts) == stats.gpus_registered
    nodes = client.nodes(page_size=1_000).nodes
    assert sum(each.gpu_leased for each in nodes) == stats.gpus_leased
    assert sum(each.gpu_free for each in nodes if each.state == "READY") == stats.gpus_free
    assert sum(each.gpu_count for each in nodes) == stats.gpus_registered
    return stats


@pytest.mark.parametrize("duration_s", [1, 60, 3_600, 86_400])
def test_a_lease_ends_at_its_agreed_end(loopback: Loopback, duration_s: int) -> None:
    """Law 5: active up to the microsecond before its end, then COMPLETED at that end, its GPUs free again."""
    client, clock = loopback.client, loopback.clock
    lease = client.deploy(duration_s=duration_s)
    assert lease.start_time_us == clock.now_us
    assert lease.end_time_us == lease.start_time_us + duration_s * 1_000_000
    clock.now_us = lease.end_time_us - 1
    active = client.lease(lease.name)
    assert (active.state, active.end_reason) == (lease.STATE_ACTIVE, "")
    assert assert_counts_add_up(client).gpus_leased == 8
    clock.now_us = lease.end_time_us
    ended = client.lease(lease.name)
    assert (ended.state, ended.end_reason, ended.end_time_us) == (
        lease.STATE_ENDED,
        "COMPLETED",
        lease.end_time_us,
    )
    stats = assert_counts_add_up(client)
    assert (stats.gpus_leased, stats.gpus_free, stats.leases_active) == (0, GPUS, 0)
    assert not client.leases().leases
    assert [each.name for each in client.leases(show_ended=True).leases] == [lease.name]


def test_an_end_that_nobody_saw_in_time(loopback: Loopback) -> None:
    """Law 5: a lease that is met long after its end ended when it was agreed, not when it was met."""
    client, clock = loopback.client, loopback.clock
    lease = client.deploy(duration_s=10)
    clock.advance_s(7_200)
    assert client.lease(lease.name).end_time_us == lease.end_time_us


@pytest.mark.parametrize("looker", ["deploy", "quote", "stats", "node", "explain", "release"])
def test_whoever_comes_first_at_the_end_finds_the_gpus_free(loopback: Loopback, looker: str) -> None:
    """Laws 1 and 5: no call still sees a lease whose end has come, whichever call it is."""
    client, clock = loopback.client, loopback.clock
    lease = client.deploy(**EAST, gpu_count=16, duration_s=60)
    clock.now_us = lease.end_time_us
    match looker:
        case "deploy":
            assert client.deploy(**EAST, gpu_count=16).placement == lease.placement
        case "quote":
            assert client.quote(**EAST, gpu_count=16).placement == lease.placement
        case "stats":
            assert client.stats().gpus_leased == 0
        case "node":
            assert client.node("nodes/h1").gpu_leased == 0
        case "explain":
            assert client.explain(**EAST, gpu_count=16).feasible
        case _:
            assert client.release(lease.name).end_reason == "COMPLETED"


def test_leases_end_in_the_order_of_their_ends(loopback: Loopback) -> None:
    """Law 5: each of several leases ends at its own end, not at that of another."""
    client, clock = loopback.client, loopback.clock
    start_us = clock.now_us
    durations = [50, 10, 40, 20, 30, 20]
    leases = [client.deploy(gpu_count=1, duration_s=duration) for duration in durations]
    for second in range(0, 61, 5):
        clock.now_us = start_us + second * 1_000_000
        active = {each.name for each in client.leases().leases}
        assert active == {
            lease.name for lease, duration in zip(leases, durations, strict=True) if duration > second
        }
        assert client.stats().gpus_leased == len(active)


def test_a_release_ends_a_lease_now(loopback: Loopback) -> None:
    """Law 5: RELEASED at the moment of the call, GPUs free at once; a second release changes nothing."""
    client, clock = loopback.client, loopback.clock
    lease = client.deploy()
    clock.advance_s(17)
    released = client.release(lease.name)
    assert (released.state, released.end_reason, released.end_time_us) == (
        lease.STATE_ENDED,
        "RELEASED",
        clock.now_us,
    )
    assert assert_counts_add_up(client).gpus_free == GPUS
    version = client.stats().state_version
    clock.advance_s(5)
    assert client.release(lease.name) == released
    assert client.stats().state_version == version
    clock.now_us = lease.end_time_us + HOUR_US
    assert client.lease(lease.name) == released
    assert assert_counts_add_up(client).gpus_free == GPUS


def test_a_release_gives_back_only_what_it_held(client: Client) -> None:
    """Law 1: releasing one lease twice never frees the GPUs of the next one on the same nodes."""
    first = client.deploy(**EAST, gpu_count=16)
    client.release(first.name)
    second = client.deploy(**EAST, gpu_count=16)
    assert second.placement == first.placement
    client.release(first.name)
    assert client.stats().gpus_leased == 16
    assert refused(client.deploy, **EAST, gpu_count=1).code is grpc.StatusCode.FAILED_PRECONDITION
    client.release(second.name)


@pytest.mark.parametrize("state", ["DRAINING", "DOWN"])
def test_a_node_that_is_not_ready_takes_no_new_work(client: Client, state: str) -> None:
    """Laws 1 and 3: its lease goes on, nothing new comes, what is released is not free until it is READY again."""
    lease = client.deploy(**EAST, gpu_count=16)
    for name in ("nodes/h1", "nodes/h2"):
        assert client.set_state(name, state).state == state
    assert client.lease(lease.name).state == lease.STATE_ACTIVE
    assert assert_counts_add_up(client).gpus_leased == 16
    client.release(lease.name)
    stats = assert_counts_add_up(client)
    idle = stats.gpus_draining if state == "DRAINING" else stats.gpus_dead
    assert (idle, stats.gpus_free) == (16, GPUS - 16)
    for call in (client.deploy, client.quote):
        assert refused(call, **EAST, gpu_count=1).code is grpc.StatusCode.FAILED_PRECONDITION
    client.set_state("nodes/h1", "READY")
    assert list(client.deploy(**EAST, gpu_count=8).placement.node_ids) == ["h1"]
    assert refused(client.deploy, **EAST, gpu_count=1).code is grpc.StatusCode.FAILED_PRECONDITION


def half_up(exact: Fraction) -> int:
    """The dumb twin of `engine.domain.money`."""
    return (exact + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("duration_s", [1, 7, 59, 1_800, 3_599, 3_600, 3_601, 5_400, 12_345])
@pytest.mark.parametrize("gpu_count", [1, 7, 24])
def test_what_a_lease_costs(loopback: Loopback, gpu_count: int, duration_s: int) -> None:
    """Law 5: every price is max(ask, posted); total = rate × duration / 3600 half up; lines sum to both."""
    client = loopback.client
    lease = client.deploy(gpu_models=["H100", "L40S"], gpu_count=gpu_count, duration_s=duration_s)
    rows = {row["node_id"]: row for row in small_fleet()}
    placement, price = lease.placement, lease.price
    rate = 0
    for node_id, gpus, each in zip(
        placement.node_ids, placement.gpus, placement.prices_micro_usd_per_gpu_hour, strict=True
    ):
        row = rows[node_id]
        posted = POSTED_MICRO_USD.get(row["gpu_model"], row["ask_micro_usd_per_gpu_hour"])
        assert each == max(row["ask_micro_usd_per_gpu_hour"], posted)
        rate += gpus * each
    assert list(placement.node_ids) == sorted(placement.node_ids)
    assert sum(placement.gpus) == lease.gpu_count == gpu_count
    assert (price.rate_micro_usd_per_hour, price.duration_s) == (rate, duration_s)
    assert price.total_micro_usd == half_up(Fraction(rate * duration_s, 3_600))
    assert sum(line.amount_micro_usd for line in price.lines) == price.total_micro_usd
    assert sum(line.rate_micro_usd_per_hour for line in price.lines) == rate
    assert sum(line.gpus for line in price.lines) == gpu_count
    assert all(line.gpus > 0 and line.amount_micro_usd >= 0 for line in price.lines)
    kinds = [(line.gpu_model, line.region, line.security_tier, line.set_by) for line in price.lines]
    assert len(set(kinds)) == len(kinds)


def test_a_total_of_exactly_half_a_micro_dollar(empty: Loopback) -> None:
    """Law 5: half up, on the sum: 1,800 micro-USD per hour for a second is 0.5, charged as 1; 1,799 is nothing."""
    nodes = [
        node(f"n{ask}", gpu_model=f"X{ask}", ask_micro_usd_per_gpu_hour=ask, gpu_count=1)
        for ask in (1_799, 1_800, 5_399, 5_400)
    ]
    empty.client.load(nodes)
    for ask, total in ((1_799, 0), (1_800, 1), (5_399, 1), (5_400, 2)):
        lease = empty.client.deploy(gpu_models=[f"X{ask}"], gpu_count=1, duration_s=1)
        assert lease.price.total_micro_usd == total
        assert [line.amount_micro_usd for line in lease.price.lines] == [total]


def test_a_lease_is_named_as_asked(client: Client) -> None:
    """Law 4: the caller's request id comes back everywhere; without one the engine makes up distinct ones."""
    lease = client.deploy(request_id="Anfrage-7/ä", gpu_count=1)
    quote = client.quote(request_id="q7", gpu_count=1)
    assert (lease.request_id, quote.request_id) == ("Anfrage-7/ä", "q7")
    assert client.lease(lease.name).request_id == "Anfrage-7/ä"
    assert client.deploy_quote(quote.name).request_id == "q7"
    assert client.release(lease.name).request_id == "Anfrage-7/ä"
    made = {client.deploy(gpu_count=1).request_id for _ in range(3)} | {client.quote(gpu_count=1).request_id}
    assert len(made) == 4
    assert all(made)


def test_an_hour_if_nothing_is_said(client: Client) -> None:
    """Law 5: without a duration a lease and a quote are for 3,600 seconds, and say so."""
    lease, quote = client.deploy(gpu_count=1), client.quote(gpu_count=1)
    assert lease.price.duration_s == quote.price.duration_s == 3_600
    assert lease.end_time_us - lease.start_time_us == HOUR_US
    assert lease.price.total_micro_usd == lease.price.rate_micro_usd_per_hour


def test_a_lease_reads_as_it_was_answered(client: Client) -> None:
    """Law 5: GetLease repeats the deployment's answer but for timings; a list repeats it without the placement."""
    lease = client.deploy(**EAST, gpu_count=16, request_id="r")
    lease.ClearField("timings")
    assert client.lease(lease.name) == lease
    lease.ClearField("placement")
    assert list(client.leases().leases) == [lease]


def test_a_lease_keeps_its_price_when_asks_change(client: Client) -> None:
    """Law 5: what runs at a price goes on at that price, whatever is loaded later."""
    lease = client.deploy(**EAST, gpu_count=16)
    lease.ClearField("timings")
    client.load([node("h1", ask_micro_usd_per_gpu_hour=9_000_000, supplier_id="other"), node("a0", gpu_count=2)])
    assert client.lease(lease.name) == lease
    assert_counts_add_up(client)


def test_ended_leases_are_forgotten_after_a_day(loopback: Loopback) -> None:
    """Law 8: a lease that was forgotten answers like one that never was; an active one is never forgotten."""
    client, clock = loopback.client, loopback.clock
    gone, stays = client.deploy(gpu_count=1), client.deploy(gpu_count=1, duration_s=40 * 3_600)
    client.release(gone.name)
    clock.advance_s(25 * 3_600)
    client.set_state("nodes/h1", "READY")
    assert refused(client.lease, gone.name).code is grpc.StatusCode.NOT_FOUND
    assert client.lease(stays.name).state == stays.STATE_ACTIVE
    assert_counts_add_up(client)
