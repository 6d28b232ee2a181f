"""What leases cost and pay back: refunds against a slow twin, extensions that add up, books that never tear."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput, Refused
from engine.domain.tiers import NodeState
from engine.market import commands, refunds
from engine.market.end_reasons import EndReason, Refund
from engine.market.events import LeaseExtended
from engine.market.periods import BAND_EDGES_S
from engine.market.refunds import refund_at_end
from engine.market.state import ENDED, Lease
from engine.oracle.forward import ForwardCurve
from tests.full_size import size
from tests.market.small_market import HOUR_S, START_US, SmallMarket
from tests.service.loopback import node

ASKS = (2_000_000, 2_000_000, 2_300_001, 2_900_000)
PRICE = st.integers(1_500_000, 3_500_000)
CURVE = st.tuples(PRICE, PRICE, st.sampled_from((1.0, 7.3, 48.0)))
SECONDS = st.one_of(
    st.integers(1, 3 * HOUR_S), st.integers(1, 200 * HOUR_S), st.sampled_from((1_800, 3_600, 86_400))
)
SOME = settings(max_examples=size(15, 300))


def market(*curve: Any) -> SmallMarket:
    """32 GPUs of one market at four asks."""
    found = SmallMarket(node(f"n{place}", ask_micro_usd_per_gpu_hour=ask) for place, ask in enumerate(ASKS))
    if curve:
        found.publish(*curve)
    return found


def slow_cost(curve: ForwardCurve, ask: int, from_s: int, to_s: int) -> Fraction:
    """Hour by hour, exactly, of one GPU."""
    total = Fraction(0)
    for hour in range(from_s // HOUR_S, -(-to_s // HOUR_S)):
        seconds = min(to_s, (hour + 1) * HOUR_S) - max(from_s, hour * HOUR_S)
        total += Fraction(max(ask, int(curve.rates(1, hour)[0])) * seconds, HOUR_S)
    return total


def slow_refund(
    rows: list[tuple[int, int]], sold: ForwardCurve, now: ForwardCurve, used_s: int, end_s: int
) -> int:
    """Σ over (ask, GPUs) and hour bands of min(sold, now), rounded down."""
    edges = [used_s, *(edge for edge in BAND_EDGES_S if used_s < edge < end_s), end_s]
    total = Fraction(0)
    for ask, gpus in rows:
        for first, last in pairwise(edges):
            then = slow_cost(sold, ask, first, last)
            total += gpus * min(then, slow_cost(now, ask, first - used_s, last - used_s))
    return int(total)


@SOME
@given(CURVE, CURVE, st.integers(1, 32), SECONDS, st.floats(0, 1))
def test_a_release_pays_back_the_lower_price(
    sold: Any, now: Any, gpus: int, duration_s: int, share: float
) -> None:
    """Law (3.7): unused time at min(paid, current forward price) per node and hour band, rounded down once."""
    place = market(*sold)
    lease = place.deploy(gpu_count=gpus, duration_s=duration_s)
    used_s = min(int(share * duration_s), duration_s - 1)
    place.wait_s(used_s)
    place.publish(*now)
    rows = [
        (ASKS[number], count)
        for number, count in zip(
            lease.terms.node_numbers.tolist(), lease.terms.gpus_per_node.tolist(), strict=True
        )
    ]
    paid = ForwardCurve(*sold) if duration_s > HOUR_S else ForwardCurve(sold[0], sold[0], 1.0)
    expected = slow_refund(rows, paid, ForwardCurve(*now), used_s, duration_s)
    assert place.release(lease) == expected <= lease.paid_micro_usd


@SOME
@given(CURVE, CURVE, st.integers(1, 32), SECONDS, st.floats(0, 1))
def test_a_supplier_that_fails_pays_back_in_full(
    sold: Any, now: Any, gpus: int, duration_s: int, share: float
) -> None:
    """Law (3.7): whoever did not choose to leave gets the price paid, whatever prices are now; at least what a
    release pays back; and the time used is charged to the nearest micro-dollar."""
    place = market(*sold)
    lease = place.deploy(gpu_count=gpus, duration_s=duration_s)
    place.wait_s(min(int(share * duration_s), duration_s - 1))
    used_s = refunds.used_s(lease, place.now_us)
    inventory = place.state.inventory
    full = refund_at_end(inventory, lease, EndReason.NODE_LOST, place.now_us)
    place.publish(*now)
    assert refund_at_end(inventory, lease, EndReason.NODE_LOST, place.now_us) == full
    assert refund_at_end(inventory, lease, EndReason.RELEASED, place.now_us) <= full <= lease.paid_micro_usd
    curve = ForwardCurve(*sold) if duration_s > HOUR_S else ForwardCurve(sold[0], sold[0], 1.0)
    used = sum(
        count * slow_cost(curve, ASKS[number], 0, used_s)
        for number, count in zip(
            lease.terms.node_numbers.tolist(), lease.terms.gpus_per_node.tolist(), strict=True
        )
    )
    assert abs(lease.paid_micro_usd - full - used) <= 1
    assert refund_at_end(inventory, lease, EndReason.COMPLETED, place.now_us) == 0


@pytest.mark.parametrize("parts", [(0, 1_000_000), (0, 1), (999_999, 1_000_001)])
def test_a_second_that_began_is_used(parts: tuple[int, int]) -> None:
    """Law (3.7): time is charged per started second."""
    place = market()
    lease = place.deploy(gpu_count=1)
    whole, begun = (refund_at_end(place.state.inventory, lease, EndReason.RELEASED, START_US + us) for us in parts)
    per_second = lease.terms.rate_micro_usd_per_hour / HOUR_S
    assert whole - begun == pytest.approx(per_second, abs=1) and lease.terms.gpus_per_node.sum() == 1


@SOME
@given(CURVE, CURVE, SECONDS, SECONDS, SECONDS, st.integers(0, 10**6))
def test_extensions_add_up(
    sold: Any, now: Any, duration_s: int, first_s: int, second_s: int, late_us: int
) -> None:
    """Law (no arbitrage by splitting): h1 and then h2 cost what h1 + h2 cost at the same snapshot, to the unit."""
    amounts = []
    for parts in ((first_s, second_s), (first_s + second_s,)):
        place = market(*sold)
        lease = place.deploy(gpu_count=30, duration_s=duration_s)
        place.wait_s(duration_s // 2 + late_us / 10**6 if duration_s > 2 else 0)
        place.publish(*now)
        amounts.append(sum(place.extend(lease, part) for part in parts))
        assert lease.duration_s == duration_s + first_s + second_s
        assert lease.ends_at_us == lease.starts_at_us + lease.duration_s * 1_000_000
    assert amounts[0] == amounts[1]


@SOME
@given(CURVE, st.integers(2 * HOUR_S, 100 * HOUR_S), SECONDS)
def test_chaining_is_the_longer_lease(curve: Any, duration_s: int, added_s: int) -> None:
    """Law (no arbitrage by chaining): a lease extended at once costs what the longer lease would have."""
    one, other = market(*curve), market(*curve)
    chained = one.deploy(gpu_count=32, duration_s=duration_s)
    one.extend(chained, added_s)
    whole = other.deploy(gpu_count=32, duration_s=duration_s + added_s)
    assert chained.paid_micro_usd == whole.paid_micro_usd
    assert (
        sum(line.amount_micro_usd for line in [*chained.terms.lines, *chained.added_lines]) == whole.paid_micro_usd
    )


@SOME
@given(CURVE, CURVE, SECONDS, SECONDS, st.booleans())
def test_releasing_right_after_extending_gains_nothing(
    sold: Any, now: Any, duration_s: int, added_s: int, lock: bool
) -> None:
    """Law: an extension that is given back at once pays back at most what it cost; lines sum to what was paid."""
    place = market(*sold, 20_000_000)
    lease = place.deploy(gpu_count=20, duration_s=duration_s, lock=lock)
    place.wait_s(duration_s / 3)
    place.publish(*now, 20_000_000)
    before = refund_at_end(place.state.inventory, lease, EndReason.RELEASED, place.now_us)
    amount = place.extend(lease, added_s)
    assert sum(line.amount_micro_usd for line in lease.added_lines) == amount
    assert place.release(lease) - before <= amount
    assert 0 <= lease.terms.spread_micro_usd <= lease.charged_micro_usd


@SOME
@given(CURVE, CURVE, st.integers(1, 100 * HOUR_S), SECONDS, SECONDS)
def test_a_locked_price_holds_for_as_long_again(
    sold: Any, now: Any, duration_s: int, first_s: int, second_s: int
) -> None:
    """Law: added time costs the own rate while the lock lasts, then the curve; splitting changes nothing."""
    amounts = []
    for parts in ((first_s, second_s), (first_s + second_s,)):
        place = market(*sold)
        lease = place.deploy(gpu_count=9, duration_s=duration_s, lock=True)
        place.publish(*now)
        amounts.append(sum(place.extend(lease, part) for part in parts))
        locked_s = min(duration_s, first_s + second_s)
        assert lease.locked_s == locked_s
        of_lock = sum(line.amount_micro_usd for line in lease.added_lines if line.set_by == "LOCKED")
        assert of_lock == (2 * lease.terms.rate_micro_usd_per_hour * locked_s + HOUR_S) // (2 * HOUR_S)
    assert amounts[0] == amounts[1]


def test_a_lock_has_its_price() -> None:
    """Law: a lock is an option, so it costs the spread of a hold for the duration; it is not paid back."""
    place = market(2_500_000, 2_500_000, 48.0, 20_000_000)
    free, locked = place.deploy(gpu_count=8), place.deploy(gpu_count=8, lock=True)
    spread = locked.paid_micro_usd - free.paid_micro_usd
    assert spread == locked.terms.spread_micro_usd == -(-free.paid_micro_usd * 8_000_000 // 10**9)
    assert place.release(locked) == free.paid_micro_usd and locked.charged_micro_usd == spread


REFUSED: dict[str, tuple[Callable[[SmallMarket, Lease], Any], str]] = {
    "too dear for the caller": (lambda place, lease: place.extend(lease, 60, 1), "MAX_AMOUNT_MICRO_USD"),
    "a node that drains": (
        lambda place, lease: (
            place.do(commands.SetNodeState("n0", NodeState.DRAINING)),
            place.extend(lease, 60),
        ),
        "NODE_NOT_READY",
    ),
    "a lease that ended": (lambda place, lease: (place.release(lease), place.extend(lease, 60)), "LEASE_ENDED"),
    "a price above the cap": (
        lambda place, lease: (place.publish(2_600_001, 2_600_001), place.extend(lease, HOUR_S)),
        "PRICE_CAP",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_extensions_that_are_refused(case: str) -> None:
    """Law: a "no" is typed and changes nothing."""
    act, reason = REFUSED[case]
    place = market()
    lease = place.deploy(max_price_micro_usd_per_gpu_hour=2_600_000)
    with pytest.raises(Refused) as refusal:
        act(place, lease)
    assert refusal.value.reason == reason
    assert lease.paid_micro_usd == lease.terms.total_micro_usd and lease.duration_s == HOUR_S


def test_an_extension_beyond_ten_years_is_bad_input() -> None:
    """Law 9: what can never be is bad input."""
    place = market()
    with pytest.raises(InvalidInput):
        place.extend(place.deploy(), 10 * 365 * 24 * HOUR_S)


OPERATION = st.tuples(
    st.sampled_from(("extend", "shrink", "release", "wait", "publish", "deploy")), st.integers(1, 10**5)
)


@settings(max_examples=size(15, 400))
@given(CURVE, st.lists(st.tuples(OPERATION, PRICE), max_size=14))
def test_books_and_capacity_hold_in_any_order(curve: Any, steps: list[tuple[tuple[str, int], int]]) -> None:
    """Laws 1, 5, 6, 10: refunds never exceed payments, fencing epochs grow, a lease ends once, at its newest end,
    GPUs add up, and a replay of the events gives the same state."""
    place = market(*curve)
    ended: set[str] = set()
    fencing: dict[str, int] = {}
    for (kind, amount), price in steps:
        running = [lease for lease in place.state.leases.values() if lease.runs]
        lease = running[amount % len(running)] if running else None
        try:
            if kind == "wait":
                place.wait_s(amount)
            elif kind == "publish":
                place.publish(price, curve[1], volatility=amount * 100)
            elif kind == "deploy":
                place.deploy(gpu_count=1 + amount % 12, duration_s=amount, lock=price % 2 == 0)
            elif lease is not None and kind == "release":
                place.release(lease)
            elif lease is not None and kind == "extend":
                place.extend(lease, amount)
            elif lease is not None:
                place.shrink(lease, 1 + amount % 5)
        except (Refused, InvalidInput):
            continue
        check_books(place, ended, fencing)
    assert place.replayed().hash() == place.state.hash()


def check_books(place: SmallMarket, ended: set[str], fencing: dict[str, int]) -> None:
    inventory, running = place.state.inventory, 0
    for lease in place.state.leases.values():
        assert 0 <= lease.refunded_micro_usd <= lease.paid_micro_usd - lease.terms.spread_micro_usd
        assert lease.fencing_epoch >= fencing.get(lease.lease_id, 1)
        fencing[lease.lease_id] = lease.fencing_epoch
        if lease.state == ENDED:
            ended.add(lease.lease_id)
            continue
        assert lease.lease_id not in ended
        assert lease.ends_at_us > place.now_us
        running += lease.standing.request.gpu_count
        lines = [*lease.terms.lines, *lease.added_lines]
        assert sum(line.amount_micro_usd for line in lines) == lease.paid_micro_usd
        assert lease.periods[-1].to_s * 1_000_000 == lease.ends_at_us - lease.starts_at_us
    assert int(inventory.leased.sum()) == running and (inventory.unused >= 0).all()


def test_an_extended_lease_does_not_end_at_its_old_end() -> None:
    """Law 5: one end, the newest."""
    place = market()
    lease = place.deploy(duration_s=60)
    place.extend(lease, 60)
    place.wait_s(60)
    assert lease.runs
    place.wait_s(60)
    assert (lease.end_reason, lease.ends_at_us) == ("COMPLETED", lease.starts_at_us + 120_000_000)


def test_an_event_carries_its_result() -> None:
    """Law 4: the event has amount, lines and end; nothing is computed on replay."""
    place = market(2_600_000, 3_000_000)
    lease = place.deploy(duration_s=7_200)
    (event,) = place.do(commands.ExtendLease("alice", lease.lease_id, 7_200))
    assert isinstance(event, LeaseExtended)
    assert sum(line.amount_micro_usd for line in event.lines) == event.amount_micro_usd > 0
    assert (event.lines[0].from_s, event.lines[-1].to_s) == (7_200, 14_400)
    assert event.network_fee_micro_usd == event.amount_micro_usd * 50_000 // 1_000_000


def test_planted_bugs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a release pays back the price paid though prices fell; a refund is given twice."""
    place = market(3_000_000, 3_000_000)
    lease = place.deploy(gpu_count=8, duration_s=2 * HOUR_S)
    place.publish(2_500_000, 2_500_000)
    right = refund_at_end(place.state.inventory, lease, EndReason.RELEASED, place.now_us)
    monkeypatch.setitem(refunds.REFUND_OF, EndReason.RELEASED, Refund.IN_FULL)
    assert refund_at_end(place.state.inventory, lease, EndReason.RELEASED, place.now_us) > right == 8 * 5_000_000
    lease.refunded_micro_usd = lease.paid_micro_usd
    with pytest.raises(AssertionError):
        lease.refunded_micro_usd += 1
        check_books(place, set(), {})
