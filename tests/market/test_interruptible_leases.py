"""Interruptible leases: priced by every epoch, outbid only after a notice, paid back in full."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import AuditFailed, InvalidInput, Refused
from engine.market import commands, settle_decision, terms
from engine.market.decide import decide
from engine.market.end_reasons import EndReason
from engine.market.events import LeaseEnded, LeaseReclaiming, LeaseRepriced, LeaseStarted, decode
from engine.market.refunds import refund_at_end
from engine.market.state import Lease
from tests.full_size import size
from tests.market.small_market import HOUR_S, SECOND_US, SmallMarket
from tests.service.loopback import Book, node

ASKS = (500_000, 700_000, 900_000, 2_900_000)
BASE = st.integers(300_000, 3_000_000)
NOTICE_S = 120
STEP = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 4_000), st.none()),
    st.tuples(st.just("epoch"), BASE, st.none()),
    st.tuples(st.just("deploy"), st.integers(1, 12), st.one_of(st.none(), BASE)),
    st.tuples(st.just("on demand"), st.integers(1, 12), st.none()),
    st.tuples(st.just("release"), st.integers(0, 9), st.none()),
    st.tuples(st.just("extend"), st.integers(1, 4_000), st.none()),
    st.tuples(st.just("shrink"), st.integers(0, 9), st.none()),
)


def market(base: int | None = 600_000) -> SmallMarket:
    """32 GPUs of one market; posted at 2.50 USD, interruptible ones at `base`."""
    place = SmallMarket(node(f"n{index}", ask_micro_usd_per_gpu_hour=ask) for index, ask in enumerate(ASKS))
    if base is not None:
        place.publish(2_500_000, 2_500_000, interruptible=base)
    return place


def offered(place: SmallMarket, gpus: int, bid: int | None = None, duration_s: int = 2 * HOUR_S) -> Lease:
    wanted = {"gpu_count": gpus, "duration_s": duration_s, "max_price_micro_usd_per_gpu_hour": bid}
    return place.deploy(**wanted, interruptible=True)


def epoch(place: SmallMarket, base: int) -> list[Any]:
    """New prices, and what becomes of the leases."""
    place.publish(2_500_000, 2_500_000, interruptible=base)
    return place.settle(NOTICE_S)


def check(place: SmallMarket) -> None:
    """Whole gangs, on GPUs of their own, at no more than their bid."""
    inventory, running = place.state.inventory, 0
    for lease in place.state.leases.values():
        standing = lease.standing
        bid = standing.request.max_price_micro_usd_per_gpu_hour
        if lease.runs:
            running += standing.request.gpu_count
            assert int(standing.gpus_per_node.sum()) == standing.request.gpu_count
        assert bid is None or standing.rate_micro_usd_per_hour <= bid * standing.request.gpu_count
        assert (standing.prices >= inventory.nodes.ask_micro_usd[standing.node_numbers]).all()
        assert 0 <= lease.refunded_micro_usd <= lease.paid_micro_usd
        lines = sum(line.amount_micro_usd for line in [*lease.terms.lines, *lease.added_lines])
        assert lines == lease.paid_micro_usd
    assert int(inventory.leased.sum()) == running and (inventory.unused >= 0).all()


def check_index(place: SmallMarket) -> None:
    """The index that is kept against a look at every lease."""
    leases = place.state.leases.values()
    running = [each.lease_id for each in leases if each.runs and each.terms.request.interruptible]
    assert list(place.state.interruptible) == running


def check_ends(place: SmallMarket) -> None:
    """Each lease ends at most once; OUTBID only at the time that a notice, long enough before, has named."""
    noticed: dict[str, LeaseReclaiming] = {}
    ended: set[str] = set()
    for event in map(decode, place.log):
        if isinstance(event, LeaseReclaiming):
            assert event.lease_id not in noticed and event.lease_id not in ended
            assert event.reclaim_at_us == event.at_us + NOTICE_S * SECOND_US
            noticed[event.lease_id] = event
        if isinstance(event, LeaseEnded):
            assert event.lease_id not in ended
            ended.add(event.lease_id)
            if event.reason == "OUTBID":
                assert event.ended_at_us == noticed[event.lease_id].reclaim_at_us


@settings(max_examples=size(20, 600))
@given(st.lists(STEP, min_size=1, max_size=16))
def test_nobody_pays_above_its_bid_and_notice_precedes_the_end(steps: list[tuple[str, int, int | None]]) -> None:
    """Laws (3.5): no winner above its bid, no supplier under its ask, gangs whole, on-demand work takes nothing
    from a running lease, notice before an end, one end; and a replay gives the same state."""
    place = market()
    for kind, amount, bid in steps:
        mine = [lease for lease in place.state.leases.values() if lease.runs]
        lease = mine[amount % len(mine)] if mine else None
        try:
            if kind == "wait":
                place.wait_s(amount)
            elif kind == "epoch":
                epoch(place, amount)
            elif kind == "deploy":
                offered(place, amount, bid)
            elif kind == "on demand":
                place.deploy(gpu_count=amount)
            elif lease is not None and kind == "release":
                place.release(lease)
            elif lease is not None and kind == "extend":
                place.extend(lease, amount)
            elif lease is not None:
                place.shrink(lease, 1)
        except (Refused, InvalidInput):
            continue
        check(place)
        check_ends(place)
        check_index(place)
    assert place.replayed().hash() == place.state.hash()


@settings(max_examples=size(30, 600))
@given(st.integers(1, 32), BASE)
def test_at_once_at_the_interruptible_price(gpus: int, base: int) -> None:
    """Law (3.5): max(price of the market, ask) of each node, the cheapest GPUs, proven; on-demand prices stay."""
    place = market(base)
    lease = offered(place, gpus)
    prices = sorted(max(base, ask) for ask in ASKS for _ in range(8))[:gpus]
    assert lease.terms.rate_micro_usd_per_hour == sum(prices) == lease.terms.lower_bound_micro_usd_per_hour
    assert lease.paid_micro_usd == 2 * sum(prices)
    place.release(lease)
    assert place.deploy(gpu_count=8).terms.rate_micro_usd_per_hour == 8 * 2_500_000


def test_without_an_epoch_the_price_is_the_posted_one() -> None:
    """Law: an engine without an oracle sells interruptible work like any other."""
    place = market(None)
    assert offered(place, 8).terms.rate_micro_usd_per_hour == 8 * 2_500_000
    assert place.settle() == []


def test_a_bid_below_the_price_is_refused_with_the_price_that_would_do() -> None:
    """Law (3.5): BELOW_PRICE is a price cap; the refusal names the least bid."""
    with pytest.raises(Refused) as refusal:
        offered(market(), 8, 599_999)
    assert refusal.value.reason == "PRICE_CAP"
    assert refusal.value.metadata["cheapest_micro_usd_per_gpu_hour"] == "600000"


@settings(max_examples=size(20, 400))
@given(st.integers(1, 24), st.lists(st.tuples(BASE, st.integers(0, 1_500)), min_size=1, max_size=5))
def test_what_is_paid_is_the_price_of_each_epoch(gpus: int, epochs: list[tuple[int, int]]) -> None:
    """Law 6: charged less paid back is the sum of each epoch's prices over its seconds, up to a unit a change."""
    place = market()
    lease, exact = offered(place, gpus), Fraction(0)
    for base, seconds in epochs:
        epoch(place, base)
        exact += Fraction(lease.standing.rate_micro_usd_per_hour * seconds, HOUR_S)
        place.wait_s(seconds)
    if not lease.runs:
        return
    full = lease.charged_micro_usd - settle_refund(place, lease)
    assert abs(full - exact) <= len(epochs) + 1


def settle_refund(place: SmallMarket, lease: Lease) -> int:
    return refund_at_end(place.state.inventory, lease, EndReason.OUTBID, place.now_us)


def test_the_way_of_an_outbid_lease() -> None:
    """Laws (3.5, 3.7): notice, goes on at its price, ends with everything unused paid back, its GPUs free."""
    place = market()
    lease = offered(place, 8, 800_000)
    place.wait_s(1_000)
    (notice,) = epoch(place, 800_001)
    assert isinstance(notice, LeaseReclaiming)
    assert (lease.state, lease.reclaim_reason, lease.fencing_epoch) == ("RECLAIMING", "OUTBID", 2)
    for act in (lambda: place.extend(lease, 60), lambda: place.shrink(lease, 1)):
        with pytest.raises(Refused):
            act()
    assert epoch(place, 400_000) == [], "a notice is not taken back"
    place.wait_s(NOTICE_S - 1)
    assert lease.runs
    place.wait_s(1)
    assert (lease.state, lease.end_reason) == ("ENDED", "OUTBID")
    rate = lease.terms.rate_micro_usd_per_hour
    used = Fraction(rate * (1_000 + NOTICE_S), HOUR_S)
    assert abs(lease.charged_micro_usd - used) <= 1
    assert int(place.state.inventory.leased.sum()) == 0


def test_whoever_leaves_after_a_notice_gets_everything() -> None:
    """Law (3.7): it was not the tenant who ended it."""
    place = market(1_000_000)
    lease = offered(place, 8, 1_000_000)
    epoch(place, 1_000_001)
    place.publish(2_500_000, 2_500_000, interruptible=500_000)
    assert place.release(lease) == lease.paid_micro_usd


def test_a_lease_that_ends_within_the_notice_just_ends() -> None:
    """Law 5: no notice for what is over before it."""
    place = market()
    lease = offered(place, 8, 800_000, duration_s=NOTICE_S)
    assert epoch(place, 900_000) == []
    place.wait_s(NOTICE_S)
    assert lease.end_reason == "COMPLETED"


def test_a_price_that_rises_is_charged_and_one_that_falls_paid_back() -> None:
    """Law 6: the difference for the time left, one line for all rises."""
    place = market()
    lease = offered(place, 8)
    place.wait_s(HOUR_S)
    (rise,) = epoch(place, 1_000_000)
    assert isinstance(rise, LeaseRepriced)
    assert (rise.amount_micro_usd, rise.refund_micro_usd, rise.from_s) == (8 * 400_000, 0, HOUR_S)
    (fall,) = epoch(place, 700_000)
    assert isinstance(fall, LeaseRepriced) and fall.refund_micro_usd == 8 * 300_000
    epoch(place, 800_000)
    assert [(line.kind, line.amount_micro_usd) for line in lease.added_lines] == [("REPRICED", 8 * 500_000)]
    assert lease.charged_micro_usd == 8 * (600_000 + 800_000)


def test_planted_bugs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a price above the bid, an end without notice, a sale under an ask."""
    place = market()
    lease = offered(place, 8, 800_000)
    monkeypatch.setattr(settle_decision, "_is_outbid", lambda *_: False)
    epoch(place, 800_001)
    with pytest.raises(AssertionError):
        check(place)
    place = market()
    lease = offered(place, 8, 800_000)
    ended = LeaseEnded(at_us=place.now_us, lease_id=lease.lease_id, reason="OUTBID", ended_at_us=place.now_us)
    place.log.append(msgspec.msgpack.encode(ended))
    with pytest.raises(KeyError):
        check_ends(place)
    cheap = np.full(1, 1, dtype="<i8").tobytes()
    (event,) = decide(market().state, commands.DeployCluster("alice", lease.terms.request), place.now_us, Book())
    assert isinstance(event, LeaseStarted)
    under = msgspec.structs.replace(event.terms, prices_micro_usd_per_gpu_hour=cheap)
    monkeypatch.setattr(terms, "_terms", lambda *_: under)
    with pytest.raises(AuditFailed):
        offered(market(), 8, 800_000)
