"""Lost nodes and drains: what leases do, what their tenants pay, and that many nodes are one event."""

from __future__ import annotations

import numpy as np
import pytest

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import AuditFailed, NotFound
from engine.domain.money import total_micro_usd
from engine.domain.tiers import NodeState
from engine.market import commands, failure_placement
from engine.market.events import LeaseEnded, LeaseMoved, NodesStateSet, OrderPlaced
from tests.market.upkept import NONE, Upkept
from tests.service.loopback import node

HOUR_US = 3_600_000_000
WHOLE = ClusterRequest(16, gpus_per_node=8)


def fleet(count: int, **changes: object) -> Upkept:
    market = Upkept()
    market.load(*(node(f"n{i}", **changes) for i in range(count)))
    return market


def last(market: Upkept) -> object:
    return market.events[-1]


def test_only_the_lost_replicas_move() -> None:
    """Laws 2 and 3: what stands stays, what was lost is placed anew, and the terms are those that were sold."""
    market = fleet(4)
    lease_id = market.deploy(WHOLE)
    before = market.state.leases[lease_id].terms
    market.lose("n1")
    market.settle()
    assert isinstance(last(market), LeaseMoved)
    assert market.where(lease_id) == {"n0": 8, "n2": 8}
    assert market.state.leases[lease_id].terms == before
    assert market.replayed().hash() == market.state.hash()


def test_a_fabric_moves_as_a_whole() -> None:
    """Law 3: where a constraint binds all nodes together and the rest cannot be kept, the whole gang moves."""
    market = Upkept()
    market.load(*(node(f"n{i}", fabric_id="f" if i < 2 else "g") for i in range(4)))
    lease_id = market.deploy(ClusterRequest(16, gpus_per_node=8, same_fabric=True))
    assert market.where(lease_id) == {"n0": 8, "n1": 8}
    market.lose("n0")
    market.settle()
    assert market.where(lease_id) == {"n2": 8, "n3": 8}


def test_a_place_that_asks_more_than_the_tenant_pays_is_none() -> None:
    """Law: a move never costs the tenant more, nor pays a supplier less than its ask."""
    market = Upkept()
    market.load(node("n0"), node("n1", ask_micro_usd_per_gpu_hour=2_000_001))
    market.publish({("H100", "us-east", "SECURE"): (1_500_000, 1_500_000)})
    lease_id = market.deploy(ClusterRequest(8))
    market.lose("n0")
    market.settle()
    ended = last(market)
    assert isinstance(ended, LeaseEnded) and (ended.lease_id, ended.reason) == (lease_id, "NODE_LOST")
    assert ended.refund_micro_usd == 8 * 2_000_000


def test_a_price_that_rose_since_is_no_obstacle() -> None:
    """Law: what is paid for goes on at its price wherever asks are covered, whatever is posted by now."""
    market = fleet(2)
    lease_id = market.deploy(ClusterRequest(8))
    market.publish({("H100", "us-east", "SECURE"): (9_000_000, 9_000_000)})
    market.lose("n0")
    market.settle()
    assert market.where(lease_id) == {"n1": 8}
    assert market.standing(lease_id).prices.tolist() == [2_000_000]


@pytest.mark.parametrize("elapsed_us", [0, 1, HOUR_US // 3, HOUR_US - 1])
def test_the_refund_is_exact(elapsed_us: int) -> None:
    """Law: all of the seconds that had not begun come back, and an order waits for the rest if wanted."""
    market = fleet(1)
    lease_id = market.deploy(ClusterRequest(7), retry_on_loss_s=600)
    market.clock_us += elapsed_us
    market.lose("n0")
    market.settle()
    lease, unused_s = market.state.leases[lease_id], 3_600 - -(-elapsed_us // 1_000_000)
    assert (lease.end_reason, lease.refunded_micro_usd) == (
        "NODE_LOST",
        total_micro_usd(7 * 2_000_000, unused_s),
    )
    placed = [event for event in market.events if isinstance(event, OrderPlaced)]
    rest_s = (HOUR_US - elapsed_us) // 1_000_000
    if not rest_s:
        assert placed == []
        return
    (order,) = placed
    assert (order.retry_of, order.request.duration_s, order.tenant_id) == (lease_id, rest_s, "bob")
    assert order.request.max_price_micro_usd_per_gpu_hour == 2_000_000
    market.load(node("n1"))
    market.settle()
    assert market.state.orders[order.order_id].state == "FILLED"


def test_a_drain_with_notice() -> None:
    """Law: what can move moves at once, what cannot runs on to the deadline, and ends there with its refund."""
    market = fleet(3)
    one, two = market.deploy(ClusterRequest(8)), market.deploy(ClusterRequest(8))
    market.submit(commands.DrainNode("n0", 600))
    market.settle()
    assert market.where(one) == {"n2": 8}
    market.submit(commands.DrainNode("n1", 600))
    market.settle()
    market.clock_us += 600_000_000 - 1
    market.settle()
    assert market.where(two) == {"n1": 8} and market.state.leases[two].state == "RECLAIMING"
    market.clock_us += 1
    market.settle()
    assert (market.state.leases[two].end_reason, market.state.leases[one].state) == ("SUPPLIER_DRAINED", "ACTIVE")
    assert market.replayed().hash() == market.state.hash()


def told(market: Upkept, lease_id: str) -> tuple[object, ...]:
    """What a lease is told of its end: state, reason, seconds from now, and its fencing epoch."""
    lease = market.state.leases[lease_id]
    left_s = (lease.reclaim_at_us - market.clock_us) // 1_000_000 if lease.reclaim_at_us else None
    return lease.state, lease.reclaim_reason, left_s, lease.fencing_epoch


def test_a_lease_that_cannot_move_has_notice() -> None:
    """Law: it is told once, why and until when; another deadline is another notice; replays tell the same."""
    market = fleet(1)
    lease_id = market.deploy(ClusterRequest(8))
    market.submit(commands.DrainNode("n0", 600))
    market.settle()
    assert told(market, lease_id) == ("RECLAIMING", "SUPPLIER_DRAINED", 600, 2)
    market.submit(commands.SetNodeState("n0", NodeState.DRAINING))
    market.settle()
    assert told(market, lease_id) == ("ACTIVE", "", None, 3)
    market.submit(commands.DrainNode("n0", 300))
    market.submit(commands.DrainNode("n0", 400))
    market.settle()
    market.lose("n0")
    market.submit(commands.NoteHeartbeats(NONE, NONE, np.arange(1)))
    market.settle()
    assert told(market, lease_id) == ("ACTIVE", "", None, 5)
    assert market.replayed().hash() == market.state.hash()


def test_a_drain_after_the_end_is_no_notice() -> None:
    """Law: a lease that ends by then is told nothing, and completes."""
    market = fleet(1)
    lease_id = market.deploy(ClusterRequest(8))
    market.submit(commands.DrainNode("n0", 3_600))
    market.settle()
    assert told(market, lease_id) == ("ACTIVE", "", None, 1)
    market.clock_us += HOUR_US
    market.settle()
    assert market.state.leases[lease_id].end_reason == "COMPLETED"


@pytest.mark.parametrize("is_noticed", [False, True])
def test_who_leaves_after_the_notice_of_a_drain_gets_everything(is_noticed: bool) -> None:
    """Law: the refund is at the price paid, however low that of now is; else at the lower one."""
    market = fleet(1)
    lease_id = market.deploy(ClusterRequest(8))
    market.load(node("n0", ask_micro_usd_per_gpu_hour=1_000_000))
    market.publish({("H100", "us-east", "SECURE"): (1_000_000, 1_000_000)})
    market.clock_us += 900_000_000
    if is_noticed:
        market.submit(commands.DrainNode("n0", 600))
        market.settle()
    market.release(lease_id)
    lease = market.state.leases[lease_id]
    back = total_micro_usd(8 * (2_000_000 if is_noticed else 1_000_000), 2_700)
    assert (lease.end_reason, lease.refunded_micro_usd) == ("RELEASED", back)


def test_room_before_the_deadline_saves_a_lease() -> None:
    """Law: at the deadline it is looked once more for a place, and where it goes on it has no notice."""
    market = fleet(2)
    taken, lease_id = market.deploy(ClusterRequest(8)), market.deploy(ClusterRequest(8))
    market.submit(commands.DrainNode("n1", 60))
    market.settle()
    market.release(taken)
    market.clock_us += 60_000_000
    market.settle()
    assert market.where(lease_id) == {"n0": 8}
    assert told(market, lease_id) == ("ACTIVE", "", None, 4)
    market.clock_us += HOUR_US
    market.settle()
    assert market.state.leases[lease_id].end_reason == "COMPLETED"


@pytest.mark.parametrize(("notice_s", "reason"), [(200, "OUTBID"), (60, "SUPPLIER_DRAINED")])
def test_the_sooner_notice_counts(notice_s: int, reason: str) -> None:
    """Law: of a drain and a price that rose the lease is told what ends it first, and ends so."""
    market = fleet(1)
    limited = ClusterRequest(8, interruptible=True, max_price_micro_usd_per_gpu_hour=2_000_000)
    lease_id = market.deploy(limited)
    market.load(node("n0", ask_micro_usd_per_gpu_hour=3_000_000))
    market.submit(commands.SettleInterruptible((lease_id,), 120_000_000))
    market.submit(commands.DrainNode("n0", notice_s))
    market.settle()
    ends_s = min(notice_s, 120)
    assert told(market, lease_id)[:3] == ("RECLAIMING", reason, ends_s)
    market.clock_us += ends_s * 1_000_000
    market.settle()
    assert market.state.leases[lease_id].end_reason == reason
    assert market.replayed().hash() == market.state.hash()


def test_a_drain_without_notice_leaves_leases() -> None:
    """Law: SetNodeState DRAINING alone stops new work; a later order by hand ends a notice."""
    market = fleet(1)
    lease_id = market.deploy(ClusterRequest(8))
    market.submit(commands.SetNodeState("n0", NodeState.DRAINING))
    market.settle()
    market.submit(commands.DrainNode("n0", 60))
    market.submit(commands.SetNodeState("n0", NodeState.READY))
    market.clock_us += 61_000_000
    market.settle()
    assert market.state.leases[lease_id].state == "ACTIVE" and not market.state.liveness.drains
    with pytest.raises(NotFound):
        market.submit(commands.DrainNode("n9", 60))


def test_many_nodes_are_one_event() -> None:
    """Law: whatever is lost at once is one event; what an operator set stays so, and only the lost come back."""
    market = fleet(40)
    leases = [market.deploy(ClusterRequest(8)) for _ in range(20)]
    market.submit(commands.SetNodeState("n39", NodeState.DOWN))
    lost = market.lose(*(f"n{i}" for i in range(12)), "n39")
    assert len(lost) == 1 and isinstance(lost[0], NodesStateSet)
    assert np.frombuffer(lost[0].nodes, "<i4").size == 12
    market.settle()
    assert all(market.state.leases[each].state == "ACTIVE" for each in leases)
    back, _ = market.submit(commands.NoteHeartbeats(NONE, NONE, np.arange(40)))
    assert len(back) == 1 and market.state.liveness.lost == set()
    assert market.state.inventory.state[market.state.inventory.number["n39"]] == NodeState.DOWN
    assert market.submit(commands.NoteHeartbeats(NONE, NONE, np.arange(40)))[0] == []


def test_a_load_that_changed_a_kept_node() -> None:
    """Law 3: if what the lease stands on no longer keeps its constraints, the whole gang is placed anew."""
    market = fleet(4)
    lease_id = market.deploy(ClusterRequest(16, gpus_per_node=8, certifications=("SOC2",)))
    market.load(node("n0", certifications=[]))
    market.lose("n1")
    market.settle()
    assert market.where(lease_id) == {"n2": 8, "n3": 8}


def test_the_audit_finds_a_wrong_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3: a planted bug in the search for a new place is stopped by code that it does not share."""
    market = Upkept()
    market.load(node("n0"), node("n1"), node("n2", site_id="fra1"))
    lease_id = market.deploy(ClusterRequest(16, gpus_per_node=8, max_cluster_rtt_ms=5.0))
    market.lose("n1")
    true = failure_placement._close_to
    monkeypatch.setattr(failure_placement, "_close_to", lambda inventory, *_: true(inventory, np.arange(0), None))
    with pytest.raises(AuditFailed, match="too far from each other"):
        market.submit(commands.RepairLease(lease_id))
    monkeypatch.undo()
    market.settle()
    assert market.state.leases[lease_id].end_reason == "NODE_LOST"


def test_what_is_known_of_nodes_is_a_fact() -> None:
    """Law 10: a first heartbeat, a loss and a notice each give another hash; so does another deadline."""

    def hash_of(*steps: commands.Command) -> str:
        market = fleet(2)
        for step in steps:
            market.submit(step)
        return market.state.hash()

    node_0, node_1 = np.array([0]), np.array([1])
    hashes = [
        hash_of(commands.NoteHeartbeats(node_0, NONE, NONE)),
        hash_of(commands.NoteHeartbeats(node_1, NONE, NONE)),
        hash_of(commands.NoteHeartbeats(NONE, node_0, NONE)),
        hash_of(commands.SetNodeState("n0", NodeState.DOWN)),
        hash_of(commands.DrainNode("n0", 60)),
        hash_of(commands.DrainNode("n0", 61)),
        hash_of(commands.SetNodeState("n0", NodeState.DRAINING)),
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_audit_finds_a_place_that_must_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3: a search that leaves a lease where it may not stay is stopped, however little would move."""
    market = fleet(2)
    lease_id = market.deploy(ClusterRequest(8))
    market.submit(commands.DrainNode("n0", 0))
    monkeypatch.setattr(failure_placement, "_anew", lambda inventory, terms, old: old)
    with pytest.raises(AuditFailed, match="on a node that it must leave"):
        market.submit(commands.RepairLease(lease_id))
    monkeypatch.undo()
    market.settle()
    assert market.where(lease_id) == {"n1": 8}
