"""Standing orders: what wakes them and what does not, in which order they are served, and how they end."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import InvalidInput, NotFound, Overloaded
from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.events import Key, LeaseStarted, OrderEnded, OrderFilled
from engine.market.order_queue import PRIORITY_WEIGHT_MICRO_USD, TRIED_MAX, OrderQueue
from engine.market.state import KEPT_US
from tests.full_size import size
from tests.market.upkept import Upkept
from tests.service.loopback import node

H100 = "H100", "us-east", "SECURE"
LIMIT = "max_price_micro_usd_per_gpu_hour"


def wanted(gpu_count: int = 8, limit: int = 5_000_000, **fields: Any) -> ClusterRequest:
    return ClusterRequest(gpu_count, **{LIMIT: limit}, **fields)


@pytest.fixture
def market() -> Upkept:
    """Two nodes of eight H100 in us-east, one of A100 in eu-central; asks 2 USD, which the prices are."""
    market = Upkept()
    market.load(
        node("h1"), node("h2", supplier_id="bolt", reliability=0.95), node("a1", gpu_model="A100", site_id="fra1")
    )
    return market


def filled(market: Upkept) -> list[str]:
    return [event.order_id for event in market.events if isinstance(event, OrderFilled)]


def test_an_order_is_served_at_once_if_it_can_be(market: Upkept) -> None:
    """Law: lease and fill are one batch, the lease has the order's terms and is within its limit."""
    order_id = market.place(wanted(16, gpu_models=("H100",)), retry_on_loss_s=60)
    market.settle()
    started, fill = market.events[-2:]
    assert isinstance(started, LeaseStarted) and isinstance(fill, OrderFilled)
    order, lease = market.state.orders[order_id], market.state.leases[started.lease_id]
    assert (order.state, order.lease_id, lease.order_id, lease.retry_on_loss_s) == (
        "FILLED", lease.lease_id, order_id, 60,
    )  # fmt: skip
    assert lease.terms.request == order.request
    assert not market.state.open_orders


def test_what_cannot_serve_an_order_does_not_wake_it(market: Upkept) -> None:
    """Law: an order is tried again only if something changed that it can use."""
    taken = market.deploy(ClusterRequest(16, gpu_models=("H100",)))
    other = market.deploy(ClusterRequest(8, gpu_models=("A100",)))
    market.place(wanted(8, gpu_models=("H100",), min_reliability=0.99))
    market.place(wanted(8, gpu_models=("H100",), limit=1_999_999))
    market.settle()
    queue = market.orders.queue
    tried = queue.tried
    market.release(other)
    market.submit(commands.SetNodeState("a1", NodeState.DOWN))
    market.submit(commands.SetNodeState("a1", NodeState.READY))
    market.publish({H100: (3_000_000, 3_000_000)})
    market.publish({H100: (2_000_000, 2_000_000)})
    market.settle()
    assert queue.tried == tried
    market.release(taken)
    market.settle()
    assert queue.tried == tried + 1 and len(filled(market)) == 1


def test_a_part_of_the_room_wakes_nobody(market: Upkept) -> None:
    """Law: a gang is not tried before its whole room is there."""
    one, two = (market.deploy(ClusterRequest(8, gpu_models=("H100",))) for _ in range(2))
    market.place(wanted(16, gpu_models=("H100",)))
    market.settle()
    market.release(one)
    market.settle()
    assert market.orders.queue.tried == 0
    market.release(two)
    market.settle()
    assert (market.orders.queue.tried, len(filled(market))) == (1, 1)


def test_full_then_dear_then_cheap(market: Upkept) -> None:
    """Law: none forgotten: what found no room, and then room that was too dear, is woken by the price."""
    market.publish({H100: (3_000_000, 3_000_000)})
    leases = [market.deploy(ClusterRequest(8, gpu_models=("H100",))) for _ in range(2)]
    order_id = market.place(wanted(16, gpu_models=("H100",), limit=2_500_000))
    market.settle()
    for lease_id in leases:
        market.release(lease_id)
        market.settle()
    assert not filled(market)
    market.publish({H100: (2_400_000, 2_400_000)})
    market.settle()
    assert filled(market) == [order_id]


def test_a_cheaper_long_run_price_wakes_long_orders(market: Upkept) -> None:
    """Law: a forward curve that falls at any hour may serve an order, one that rises may not."""
    market.publish({H100: (3_000_000, 3_000_000)})
    order_id = market.place(wanted(8, gpu_models=("H100",), limit=2_900_000, duration_s=400 * 3_600))
    market.settle()
    assert not filled(market)
    market.publish({H100: (3_000_000, 2_100_000)})
    market.settle()
    assert filled(market) == [order_id]


def test_a_load_wakes_those_whom_no_node_suited(market: Upkept) -> None:
    """Law: a load is another fleet: everyone is looked at again."""
    order_id = market.place(wanted(8, gpu_models=("L40S",)))
    market.settle()
    assert not filled(market)
    market.load(node("l1", gpu_model="L40S"))
    market.settle()
    assert filled(market) == [order_id]


@settings(max_examples=size(15, 200))
@given(st.lists(st.tuples(st.integers(2_000_000, 2_100_000), st.integers(0, 3), st.integers(0, 2)), min_size=2))
def test_orders_are_served_by_surplus_then_age_then_id(rows: list[tuple[int, int, int]]) -> None:
    """Law: the best surplus, weighed by priority, goes first; of equals the older; of those the lower id."""
    market = Upkept()
    market.load(node("h1", gpu_count=8))
    taken = market.deploy(ClusterRequest(8))
    for limit, priority, wait_s in rows:
        market.clock_us += wait_s * 1_000_000
        market.place(wanted(1, limit), priority=priority, ttl_s=90_000)
        market.settle()
    market.release(taken)
    market.settle()
    ranked = sorted(
        market.state.orders.values(),
        key=lambda order: (
            -(order.limit_micro_usd + PRIORITY_WEIGHT_MICRO_USD * order.priority),
            order.placed_at_us,
            order.order_id,
        ),
    )
    assert filled(market) == [order.order_id for order in ranked[: len(filled(market))]]
    assert len(filled(market)) == min(8, len(rows))


def test_a_round_ends_before_the_next_begins(market: Upkept) -> None:
    """Law: no starvation: better orders that keep coming do not keep a woken one from its try."""
    queue, state = OrderQueue(), market.state
    market.orders.queue = queue
    poor = market.place(wanted(1, 2_000_000, gpu_models=("A100",)))
    for _ in range(3 * TRIED_MAX):
        market.place(wanted(1, 3_000_000, gpu_models=("A100",)))
    tried: list[str] = []
    for _ in range(40):
        tried += queue.step(state) or []
        market.place(wanted(1, 9_000_000, gpu_models=("A100",)))
    assert poor in tried


def test_one_try_decides(market: Upkept) -> None:
    """Law: an order of one try is filled or over, and says why."""
    market.deploy(ClusterRequest(16, gpu_models=("H100",)))
    lost = market.place(wanted(8, gpu_models=("H100",)), once=True)
    dear = market.place(wanted(8, 1_000_000, gpu_models=("A100",)), once=True)
    market.settle()
    won = market.place(wanted(8, gpu_models=("A100",)), once=True)
    market.settle()
    orders = market.state.orders
    assert (orders[lost].state, orders[lost].detail) == ("EXPIRED", "NO_CAPACITY")
    assert (orders[dear].state, orders[dear].detail) == ("EXPIRED", "PRICE_CAP")
    assert orders[won].state == "FILLED"


def test_an_order_expires_by_the_clock(market: Upkept) -> None:
    """Laws 4 and 10: at its last microsecond it is filled, at its end it is over; a day later it is forgotten."""
    market.deploy(ClusterRequest(16, gpu_models=("H100",)))
    key = Key("alice", "PlaceOrder", "k", b"body")
    (placed,), _ = market.submit(commands.PlaceOrder("alice", wanted(gpu_models=("H100",)), 60, key=key))
    order_id = placed.order_id  # type: ignore[union-attr]
    market.clock_us += 60_000_000 - 1
    market.settle()
    assert market.state.orders[order_id].state == "OPEN"
    market.clock_us += 1
    market.settle()
    assert market.state.orders[order_id].state == "EXPIRED"
    assert market.submit(commands.PlaceOrder("alice", wanted(gpu_models=("H100",)), 60, key=key))[0] == []
    market.clock_us += KEPT_US + 1
    market.submit(commands.SetNodeState("h1", NodeState.READY))
    assert order_id not in market.state.orders and not market.state.subjects and not market.state.keys_of
    assert market.replayed().hash() == market.state.hash()


def test_a_cancelled_order_is_over(market: Upkept) -> None:
    """Law: an order ends once; ending it again changes nothing; another tenant's is not there."""
    order_id = market.place(wanted(400, gpu_models=("H100",)))
    with pytest.raises(NotFound):
        market.submit(commands.CancelOrder("mallory", order_id))
    (ended,), _ = market.submit(commands.CancelOrder("alice", order_id))
    assert isinstance(ended, OrderEnded) and ended.reason == "CANCELLED"
    assert market.submit(commands.CancelOrder("alice", order_id))[0] == []
    market.load(*(node(f"n{i:02d}") for i in range(50)))
    market.settle()
    assert not filled(market)


def test_bad_orders(market: Upkept) -> None:
    """Law 9: no limit, a limit beyond what can be charged, unknown names, too many."""
    with pytest.raises(InvalidInput, match="required"):
        market.place(ClusterRequest(8))
    with pytest.raises(InvalidInput, match="charged"):
        market.place(wanted(10_000_000, 10**11, duration_s=10**8))
    with pytest.raises(InvalidInput, match="unknown"):
        market.place(wanted(8, regions=("mars",)))
    limits = commands.OrderLimits(tenant_open_max=2, open_max=3)
    for _ in range(2):
        market.place(wanted(400), limits=limits)
    with pytest.raises(Overloaded, match="this tenant"):
        market.place(wanted(400), limits=limits)
    market.submit(commands.PlaceOrder("bob", wanted(400), 60))
    with pytest.raises(Overloaded, match="orders are open"):
        market.submit(commands.PlaceOrder("carol", wanted(400), 60, limits=limits))


@pytest.mark.parametrize("seed", range(size(6, 100)))
def test_waking_is_necessary(seed: int) -> None:
    """Law: the index never lets an order sleep that a placement would serve: against tries of all, each change."""
    from tests.market.upkeep_laws import none_forgotten
    from tests.market.upkept import Life

    life = Life(random.Random(1_000 + seed))
    for _ in range(30):
        life.act()
        life.market.settle()
        assert none_forgotten(life.market) == []


def test_an_order_is_a_fact() -> None:
    """Law 10: orders that differ in one field give different hashes."""

    def hash_of(**changes: Any) -> str:
        market = Upkept()
        market.load(node("h1"))
        command = replace(commands.PlaceOrder("alice", wanted(), 60), **changes)
        market.submit(command)
        return market.state.hash()

    changes = ({}, {"ttl_s": 61}, {"priority": 1}, {"once": True}, {"retry_on_loss_s": 1}, {"tenant_id": "bob"})
    assert len({hash_of(**each) for each in changes}) == len(changes)


@pytest.mark.parametrize("kind", [commands.ServeOrder, commands.RepairLease])
def test_a_full_journal_loses_no_work(market: Upkept, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Law 9: what could not be submitted is done once the journal takes it."""
    lease_id = market.deploy(ClusterRequest(8, gpu_models=("H100",)))
    order_id = market.place(wanted(8, gpu_models=("A100",)))
    market.lose("h1")
    true, refusals = market.submit, [Overloaded("full", 1.0)]

    def submit(command: Any, stopwatch: Any = None) -> Any:
        if isinstance(command, kind) and refusals:
            raise refusals.pop()
        return true(command, stopwatch)

    monkeypatch.setattr(market, "submit", submit)
    with pytest.raises(Overloaded):
        market.settle()
    market.settle()
    assert market.where(lease_id) == {"h2": 8} and market.state.orders[order_id].state == "FILLED"


def test_one_bad_order_does_not_stop_the_others(market: Upkept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 9: a try that fails unexpectedly is not tried again before something changes; the next ones are."""
    bad, good = market.place(wanted(1, 9_000_000)), market.place(wanted(1))
    true = market.submit

    def submit(command: Any, stopwatch: Any = None) -> Any:
        if isinstance(command, commands.ServeOrder) and command.order_id == bad:
            raise RuntimeError
        return true(command, stopwatch)

    monkeypatch.setattr(market, "submit", submit)
    with pytest.raises(RuntimeError):
        market.settle()
    market.settle()
    assert filled(market) == [good]
