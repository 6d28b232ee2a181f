"""Leases that are released early, extended and shrunk over gRPC: what is answered, once per key, to whom."""

from __future__ import annotations

import grpc
from walras.v1 import cluster_service_pb2

from tests.service.loopback import Client, Loopback, cluster, refused

HOUR_US = 3_600_000_000
EAST = {"gpu_models": ["H100"], "regions": ["us-east"], "gpu_count": 16}
PER_GPU_HOUR = 2_500_000


def test_an_early_release_pays_back(loopback: Loopback) -> None:
    """Law (3.7): charged + paid back = total; every reply about the lease says the same."""
    client, clock = loopback.client, loopback.clock
    lease = client.deploy(**EAST, duration_s=7_200)
    assert (lease.charged_micro_usd, lease.refund_micro_usd) == (lease.price.total_micro_usd, 0)
    clock.advance_s(3_600)
    ended = client.release(lease.name)
    assert (ended.refund_micro_usd, ended.charged_micro_usd) == (16 * PER_GPU_HOUR, 16 * PER_GPU_HOUR)
    assert ended.price == lease.price
    assert client.lease(lease.name) == ended == client.release(lease.name)


def test_a_lease_that_ran_to_its_end_pays_nothing_back(loopback: Loopback) -> None:
    """Law (3.7): COMPLETED is charged whole."""
    lease = loopback.client.deploy(**EAST)
    loopback.clock.advance_s(3_600)
    ended = loopback.client.lease(lease.name)
    assert (ended.end_reason, ended.refund_micro_usd) == ("COMPLETED", 0)
    assert ended.charged_micro_usd == lease.price.total_micro_usd


def test_an_extension(loopback: Loopback) -> None:
    """Laws 4 and 5: later end, lines that sum to the new total, a new fencing epoch; once per key; a repeated
    deployment still answers what it answered."""
    client = loopback.client
    lease = client.deploy(**EAST, key="d")
    for _ in range(2):
        longer = client.extend(lease.name, 1_800, key="e")
        assert longer.end_time_us == lease.end_time_us + HOUR_US // 2
        assert longer.price.total_micro_usd == lease.price.total_micro_usd * 3 // 2 == longer.charged_micro_usd
        assert sum(line.amount_micro_usd for line in longer.price.lines) == longer.price.total_micro_usd
        assert (longer.price.duration_s, longer.fencing_epoch) == (5_400, lease.fencing_epoch + 1)
        assert longer.placement == lease.placement
    assert refused(client.extend, lease.name, 1_801, key="e").code is grpc.StatusCode.ALREADY_EXISTS
    lease.ClearField("timings")
    assert client.deploy(**EAST, key="d") == lease
    loopback.clock.advance_s(5_399)
    assert client.lease(lease.name).state == lease.STATE_ACTIVE
    loopback.clock.advance_s(1)
    assert client.lease(lease.name).end_reason == "COMPLETED"


def test_what_an_extension_would_cost(client: Client) -> None:
    """Law 7: with a limit of nothing the refusal tells the amount; with that limit it is charged."""
    lease = client.deploy(**EAST)
    told = refused(client.extend, lease.name, 600, most=0)
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MAX_AMOUNT_MICRO_USD")
    amount = int(told.metadata["amount_micro_usd"])
    assert refused(client.extend, lease.name, 600, most=amount - 1).reason == "MAX_AMOUNT_MICRO_USD"
    longer = client.extend(lease.name, 600, most=amount)
    assert longer.price.total_micro_usd - lease.price.total_micro_usd == amount


def test_a_part_is_given_back(client: Client) -> None:
    """Laws 1 and 2: whole replicas leave, their GPUs are free at once, their time is paid back; once per key."""
    lease = client.deploy(**EAST, gpus_per_node=4)
    free = client.stats().gpus_free
    for _ in range(2):
        smaller = client.shrink(lease.name, 3, key="s")
        assert (smaller.gpu_count, sum(smaller.placement.gpus)) == (4, 4)
        assert (smaller.refund_micro_usd, client.stats().gpus_free) == (12 * PER_GPU_HOUR, free + 12)
        assert smaller.charged_micro_usd == smaller.price.rate_micro_usd_per_hour == 4 * PER_GPU_HOUR
    assert refused(client.shrink, lease.name).code is grpc.StatusCode.INVALID_ARGUMENT
    assert client.release(lease.name).charged_micro_usd == 0


def test_a_locked_price_is_said(client: Client) -> None:
    """Law 5: a quote says what it locks, its lease has it, and a deployment of a quote may not ask for it."""
    wanted = cluster(**EAST)
    lease = client.deploy_message(cluster=wanted, lock_extension_price=True)
    assert lease.extension_price_locked
    longer = client.extend(lease.name)
    assert [line.set_by for line in longer.price.lines] == ["POSTED", "LOCKED"]
    quote = client.quote(gpu_count=1)
    assert not quote.extension_price_locked
    told = refused(client.deploy_message, quote=quote.name, lock_extension_price=True)
    assert told.fields == ("lock_extension_price",)


def test_a_mega_cluster_is_listed_by_pages(client: Client) -> None:
    """Law 2: all that a budget pays for as one lease; its pages are its placement, left out of the answer."""
    wanted = cluster(gpu_models=["H100"], gpu_count=1, all_matching=True, budget_micro_usd=10**9)
    lease = client.deploy_message(cluster=wanted, omit_placement=True)
    assert (lease.gpu_count, lease.certificate.gpu_count_upper_bound) == (24, 24)
    assert not lease.placement.node_ids
    rows, token = [], ""
    while True:
        page = client.lease_nodes(lease.name, page_size=2, page_token=token)
        rows += zip(page.placement.node_ids, page.placement.gpus, strict=True)
        if not (token := page.next_page_token):
            break
    whole = client.lease(lease.name).placement
    assert rows == list(zip(whole.node_ids, whole.gpus, strict=True)) and len(rows) == 3
    assert refused(client.as_tenant("bob").lease_nodes, lease.name).code is grpc.StatusCode.NOT_FOUND
    assert set(refused(client.lease_nodes, "l", page_size=-1, page_token="x").fields) == {
        "name",
        "page_size",
        "page_token",
    }
    for extra in ({"hold": True}, {"lock_extension_price": True}):
        request = cluster_service_pb2.QuoteClusterRequest(cluster=wanted, **extra)
        assert refused(client.call, client._clusters.QuoteCluster, request).fields == (next(iter(extra)),)


def test_bad_changes_list_everything(client: Client) -> None:
    """Law 9: every violation at once; nothing happens."""
    version = client.stats().state_version
    assert set(refused(client.extend, "lease", 0, key="x" * 129, most=-1).fields) == {
        "name",
        "duration_s",
        "max_amount_micro_usd",
        "idempotency_key",
    }
    assert set(refused(client.shrink, "", 0).fields) == {"name", "replicas"}
    assert client.stats().state_version == version
