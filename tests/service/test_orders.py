"""OrderService over the wire: placing, waiting, being served, ending; heartbeats and notices; demand of orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from walras.v1 import order_service_pb2 as pb

from engine.journal import replay_files
from engine.service.engine import replayed
from tests.service.loopback import Client, Loopback, node, refused

EAST = {"gpu_models": ["H100"], "regions": ["us-east"]}
LIMITED = {**EAST, "max_price_micro_usd_per_gpu_hour": 3_000_000}


def test_an_order_waits_and_is_served(loopback: Loopback) -> None:
    """Law: the reply is an open order; what frees its GPUs fills it, with the lease that says so."""
    client = loopback.client
    taken = client.deploy(**EAST, gpu_count=16)
    order = client.place(**LIMITED, gpu_count=16, priority=3, ttl_s=600, retry=pb.RetryPolicy(on_loss_s=60))
    assert (order.state, order.priority, order.retry.on_loss_s) == (pb.Order.STATE_OPEN, 3, 60)
    assert order.expire_time_us - order.create_time_us == 600 * 1_000_000
    loopback.settle()
    assert client.order(order.name).state == pb.Order.STATE_OPEN
    client.release(taken.name)
    loopback.settle()
    filled = client.order(order.name)
    lease = client.lease(filled.lease)
    assert filled.state == pb.Order.STATE_FILLED
    assert (lease.order, lease.gpu_count, lease.retry_on_loss_s) == (order.name, 16, 60)
    assert lease.price.total_micro_usd <= 16 * 3_000_000


def test_the_engine_works_by_itself(empty: Loopback) -> None:
    """Law: woken by the change that can serve it, without a call or a clock in between."""

    async def begin() -> Any:
        import asyncio

        return asyncio.get_running_loop().create_task(empty.server.upkeep.run())

    client = empty.client
    client.load([node("h1")])
    task = empty.run(begin())
    watch = client.watch_orders()
    assert next(watch).version > 0
    order = client.place(**LIMITED, gpu_count=8)
    seen = [next(watch).order for _ in range(1)]
    while seen[-1].state != pb.Order.STATE_FILLED:
        seen.append(next(watch).order)
    assert {each.name for each in seen} == {order.name}
    watch.cancel()
    empty._loop.call_soon_threadsafe(task.cancel)


def test_lists_and_pages(loopback: Loopback) -> None:
    """Law 8: a tenant sees its own orders, the open ones unless it asks for all, each once over the pages."""
    client = loopback.client
    names = [client.place(**LIMITED, gpu_count=400).name for _ in range(5)]
    client.cancel(names[2])
    listed, token = [], ""
    while True:
        page = client.orders(page_size=2, page_token=token)
        listed += [order.name for order in page.orders]
        if not (token := page.next_page_token):
            break
    assert listed == [name for name in names if name != names[2]]
    assert page.state_version == client.stats().state_version
    assert len(client.orders(show_ended=True).orders) == 5
    bob = client.as_tenant("bob")
    assert not bob.orders().orders
    for call in (bob.order, bob.cancel):
        assert refused(call, names[0]).code is grpc.StatusCode.NOT_FOUND


def test_keys(loopback: Loopback) -> None:
    """Law 4: same key and body, same answer, no second effect; another body is a conflict."""
    client = loopback.client
    one, again = (client.place(**LIMITED, gpu_count=8, key="k") for _ in range(2))
    loopback.settle()
    assert one == again == client.place(**LIMITED, gpu_count=8, key="k")
    assert refused(client.place, **LIMITED, gpu_count=4, key="k").code is grpc.StatusCode.ALREADY_EXISTS
    other = client.place(**LIMITED, gpu_count=400)
    assert client.cancel(other.name, key="c") == client.cancel(other.name, key="c")
    assert len(client.orders(show_ended=True).orders) == 2


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, ("cluster.max_price_micro_usd_per_gpu_hour",)),
        (
            {"gpu_count": 0, "ttl_s": 0, "priority": 101, "retry": pb.RetryPolicy(on_loss_s=-1)},
            (
                "cluster.gpu_count",
                "cluster.max_price_micro_usd_per_gpu_hour",
                "ttl_s",
                "priority",
                "retry.on_loss_s",
            ),
        ),
        ({**LIMITED, "regions": ["mars"]}, ("cluster.regions[0]",)),
    ],
)
def test_bad_orders(shared: Loopback, fields: dict[str, Any], named: tuple[str, ...]) -> None:
    """Law 9: every violation is listed, and nothing changes."""
    before = shared.hash()
    assert refused(shared.client.place, **fields).fields == named
    assert shared.hash() == before


def test_orders_survive_a_restart(loopback: Loopback, reopened: Callable[[], Client]) -> None:
    """Laws 4 and 10: open orders are there again with the same hash, and are served by what comes."""
    taken = loopback.client.deploy(**EAST, gpu_count=16)
    order = loopback.client.place(**LIMITED, gpu_count=16)
    loopback.settle()
    before = loopback.hash()
    state, _ = replayed(replay_files(loopback.data_dir))
    assert state.hash() == before
    client = reopened()
    assert client.order(order.name) == order
    client.release(taken.name)
    assert client.orders().orders[0].state == pb.Order.STATE_OPEN


def test_heartbeats_end_a_lease(loopback: Loopback) -> None:
    """Law: a node that fell silent is DOWN, its lease goes on elsewhere or ends; a steady run brings it back."""
    client = loopback.client
    lease = client.deploy(**EAST, gpu_count=16)
    answer = client.heartbeats("h1", "h2", "nobody")
    assert (list(answer.unknown_node_ids), answer.period_ms) == (["nobody"], 10_000)
    loopback.settle()
    for _ in range(7):
        loopback.clock.advance_s(10)
        client.heartbeats("h2")
        loopback.settle()
    assert (client.node("nodes/h1").state, client.node("nodes/h2").state) == ("DOWN", "READY")
    assert client.lease(lease.name).end_reason == "NODE_LOST"
    for _ in range(6):
        assert client.node("nodes/h1").state == "DOWN"
        client.heartbeats("h1", "h2")
        loopback.settle()
        loopback.clock.advance_s(10)
    assert client.node("nodes/h1").state == "READY"
    assert refused(client.heartbeats, *(["h1"] * 4_097)).fields == ("node_ids",)


def test_heartbeats_are_no_events(loopback: Loopback) -> None:
    """Law: arrivals are not journaled, only what they mean."""
    client = loopback.client
    client.heartbeats("h1", "h2")
    loopback.settle()
    version = client.stats().state_version
    for _ in range(20):
        loopback.clock.advance_s(10)
        client.heartbeats("h1", "h2")
        loopback.settle()
    assert client.stats().state_version == version


def test_a_notice(loopback: Loopback) -> None:
    """Law: after its notice a drained node has no lease; a notice is for DRAINING, within bounds."""
    client = loopback.client
    lease = client.deploy(**EAST, gpu_count=16)
    assert client.set_state("nodes/h1", "DRAINING", notice_s=300).state == "DRAINING"
    loopback.settle()
    told = client.lease(lease.name)
    assert (told.state, told.end_reason, told.fencing_epoch) == (told.STATE_RECLAIMING, "SUPPLIER_DRAINED", 2)
    assert told.reclaim_time_us == loopback.clock.now_us + 300_000_000
    loopback.clock.advance_s(300)
    loopback.settle()
    assert client.lease(lease.name).end_reason == "SUPPLIER_DRAINED"
    assert refused(client.set_state, "nodes/h2", "DOWN", notice_s=-1).fields == ("notice_s", "notice_s")


def test_a_deployment_that_wants_a_retry(loopback: Loopback) -> None:
    """Law: a lost lease becomes an order for the rest if it asked for that; not of a quote, not out of bounds."""
    client = loopback.client
    wanted = {"gpu_models": ["A100"], "gpu_count": 8, "duration_s": 7_200}
    from tests.service.loopback import cluster

    lease = client.deploy_message(cluster=cluster(**wanted), retry_on_loss_s=900)
    assert lease.retry_on_loss_s == 900
    client.set_state("nodes/a1", "DOWN")
    loopback.settle()
    (order,) = client.orders().orders
    assert (order.retry_of, order.cluster.duration_s, order.state) == (lease.name, 7_200, pb.Order.STATE_OPEN)
    client.set_state("nodes/a1", "READY")
    loopback.settle()
    assert client.order(order.name).state == pb.Order.STATE_FILLED
    assert refused(client.deploy_message, cluster=cluster(), retry_on_loss_s=-1).fields == ("retry_on_loss_s",)
    assert refused(client.deploy_message, quote="quotes/q-1", retry_on_loss_s=1).fields == ("retry_on_loss_s",)


def test_open_orders_are_demand(loopback: Loopback) -> None:
    """Law: an open order bids its limit in the next epoch; one that the fleet could never hold does not."""
    client, h100 = loopback.client, {"gpu_model": "H100", "region": "us-east", "security_tier": "SECURE"}
    limits = {"max_price_micro_usd_per_gpu_hour": 2_900_000, "duration_s": 14_400, **EAST}
    client.as_tenant("thief").place(**{**limits, "max_price_micro_usd_per_gpu_hour": 9_000_000}, gpu_count=400)
    loopback.epoch()
    assert client.price(**h100).binding_reason == "NO_TRADE"
    for tenant in ("alice", "bob", "carol"):
        client.as_tenant(tenant).place(**limits, gpu_count=16)
    loopback.epoch()
    price = client.price(**h100)
    assert (price.binding_reason, price.clearing_price_micro_usd_per_gpu_hour) == ("DEMAND", 2_900_000)
