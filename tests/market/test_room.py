"""Room for on-demand work that waits: the lowest bids go, after notice, and no more of them than must."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import Refused
from engine.market import commands, room_decision
from engine.market.events import LeaseReclaiming
from engine.market.state import Lease
from tests.full_size import size
from tests.market.small_market import HOUR_S, SECOND_US, SmallMarket
from tests.service.loopback import Book, node

NOTICE_US = 120 * SECOND_US
BIDS = st.integers(500_000, 2_400_000)


def market(nodes: int = 3) -> SmallMarket:
    """Nodes of eight GPUs; posted at 2.50 USD, interruptible ones at 0.50."""
    place = SmallMarket(node(f"n{index}", ask_micro_usd_per_gpu_hour=400_000) for index in range(nodes))
    place.publish(2_500_000, 2_500_000, interruptible=500_000)
    return place


def offered(place: SmallMarket, gpus: int, bid: int | None) -> Lease:
    wanted: dict[str, Any] = {"gpu_count": gpus, "max_price_micro_usd_per_gpu_hour": bid}
    return place.deploy(**wanted, interruptible=True)


def room(place: SmallMarket, *requests: ClusterRequest) -> list[str]:
    """Ids of the leases that get notice; the market is otherwise as before."""
    inventory = place.state.inventory
    before = inventory.unused.copy(), inventory.pools.free.copy(), inventory.pools.histogram.copy()
    rooms, events = room_decision.Rooms(place.state), []
    for request in room_decision.in_turn(requests, len(requests)):
        lease_ids = rooms.leases_for(request, requests, Book())
        events += place.do(commands.MakeRoom(request, lease_ids, NOTICE_US))
    after = inventory.unused, inventory.pools.free, inventory.pools.histogram
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    return [event.lease_id for event in events if isinstance(event, LeaseReclaiming)]


def wanted(gpus: int, limit: int | None = 2_500_000, **other: Any) -> ClusterRequest:
    return ClusterRequest(gpu_count=gpus, max_price_micro_usd_per_gpu_hour=limit, **other)


@settings(max_examples=size(30, 600))
@given(st.lists(st.tuples(st.integers(1, 8), BIDS), min_size=1, max_size=6), st.integers(1, 24), st.booleans())
def test_only_lower_bids_go_and_then_it_fits(gangs: list[tuple[int, int]], gpus: int, replicas: bool) -> None:
    """Laws (3.5): after the notice the request is served; every lease that goes bid less; none goes if it fits or
    if nothing helps; the highest bid among those that go is the lowest that can be."""
    place = market()
    leases = []
    for count, bid in gangs:
        try:
            leases.append(offered(place, count, bid))
        except Refused:
            continue
    per_node = 4 if replicas and gpus % 4 == 0 else 1
    request = wanted(gpus, gpus_per_node=per_node)
    going = room(place, request)
    chosen = [lease for lease in leases if lease.lease_id in going]
    assert all(lease.state == "RECLAIMING" for lease in chosen)
    assert room(place, request) == [], "notices that were given are enough"
    needed = cheapest_way(place, leases, gpus, per_node)
    assert (needed is None or needed == 0) == (not chosen)
    if needed:
        assert max(map(bid_of, chosen)) == needed
        place.wait_s(120)
        assert {lease.end_reason for lease in chosen} == {"OUTBID"}
        place.deploy(gpu_count=gpus, gpus_per_node=per_node)
    assert place.replayed().hash() == place.state.hash()


def bid_of(lease: Lease) -> int:
    return lease.terms.request.max_price_micro_usd_per_gpu_hour or 0


def cheapest_way(place: SmallMarket, leases: list[Lease], gpus: int, per_node: int) -> int | None:
    """The least highest bid of a set of leases without which the request fits; 0 if it fits now, None if never."""
    ways = []
    for count in range(len(leases) + 1):
        for gone in combinations(leases, count):
            free = place.state.inventory.unused.copy()
            for lease in gone:
                free[lease.standing.node_numbers] += lease.standing.gpus_per_node
            if int((free // per_node).sum()) * per_node >= gpus:
                ways.append(
                    max((lease.terms.request.max_price_micro_usd_per_gpu_hour or 0 for lease in gone), default=0)
                )
    return min(ways, default=None)


def test_who_stays() -> None:
    """Law (3.5): equal bids, leases without a limit, on-demand leases; an interruptible request makes no room."""
    place = market()
    equal, unlimited = offered(place, 8, 1_000_000), offered(place, 8, None)
    firm = place.deploy(gpu_count=8, max_price_micro_usd_per_gpu_hour=2_500_000)
    assert room(place, wanted(8, 1_000_000)) == []
    assert room(place, wanted(8, interruptible=True)) == []
    assert room(place, wanted(9, 9_000_000)) == []
    assert room(place, wanted(8)) == [equal.lease_id]
    assert unlimited.state == firm.state == "ACTIVE"


def test_two_that_wait_do_not_share_what_is_freed() -> None:
    """Law 1: the higher limit first; the second gets room of its own."""
    place = market(2)
    low, high = offered(place, 8, 600_000), offered(place, 8, 700_000)
    assert room(place, wanted(8), wanted(8, 2_600_000)) == [low.lease_id, high.lease_id]


def test_a_lease_that_ends_soon_needs_no_notice() -> None:
    """Law 5: its GPUs count as freed, and it just ends."""
    place = market(1)
    lease = offered(place, 8, 600_000)
    place.wait_s(HOUR_S - 60)
    assert room(place, wanted(8)) == []
    place.wait_s(60)
    assert lease.end_reason == "COMPLETED"


def test_thinking_wakes_nobody() -> None:
    """Law: what is thought away and put back is no news for orders that wait for free GPUs."""
    place = market(1)
    offered(place, 8, 600_000)
    freed = place.state.inventory.freed
    freed.forget()
    before = freed.revision
    room(place, wanted(8, 700_000), wanted(9))
    assert not freed.any and not freed.take(99).size and freed.revision == before


def test_what_changes_between_two_requests() -> None:
    """Laws 1 and 5: a place that somebody took meanwhile is held no more; a lease that ended gets no notice."""
    place = market(2)
    low, high = offered(place, 8, 600_000), offered(place, 8, 700_000)
    rooms, first, second = room_decision.Rooms(place.state), wanted(8, 2_600_000), wanted(8)
    assert rooms.leases_for(first, [first, second], Book()) == (low.lease_id,)
    place.release(low)
    assert place.do(commands.MakeRoom(first, (low.lease_id, "l-none"), NOTICE_US)) == []
    place.deploy(gpu_count=8, max_price_micro_usd_per_gpu_hour=2_500_000)
    assert rooms.leases_for(second, [first, second], Book()) == (high.lease_id,)


def test_who_was_served_between_two_requests() -> None:
    """Law 1: nobody goes for a request that waits no more, nor because its place counts as taken."""
    place = market(2)
    low, _ = offered(place, 4, 600_000), offered(place, 8, 700_000)
    rooms, first, second, third = room_decision.Rooms(place.state), wanted(2, 2_600_000), wanted(4), wanted(8)
    assert rooms.leases_for(first, [first, second, third], Book()) == ()
    assert rooms.leases_for(second, [second, third], Book()) == (), "the four that are free are its own"
    assert rooms.leases_for(third, [second], Book()) == ()
    assert rooms.leases_for(wanted(4), [second], Book()) == ()
    again = wanted(4)
    assert rooms.leases_for(again, [second, again], Book()) == (low.lease_id,)


def test_room_in_turn() -> None:
    """Law: the highest limits first, those without one before all, the earlier of equals first."""
    one, other, none, low = wanted(1), wanted(2), wanted(3, None), wanted(4, 1)
    given = [low, one, wanted(5, interruptible=True), other, none]
    assert room_decision.in_turn(given, 3) == [none, one, other]


def test_a_placement_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: everybody with a lower bid goes, needed or not."""
    place = market()
    leases = [offered(place, 8, bid) for bid in (600_000, 700_000, 800_000)]
    monkeypatch.setattr(room_decision, "_in_the_way", lambda _, placed, lower: leases)
    assert room(place, wanted(8)) != [leases[0].lease_id]
