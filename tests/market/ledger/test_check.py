"""The checker can fail: honest journals pass, and every planted bug is found, with the event that has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from engine.market.events import (
    AnyEvent,
    LeaseEnded,
    LeaseExtended,
    LeaseMoved,
    LeaseRepriced,
    LeaseShrunk,
    LeasesSettled,
    LeaseStarted,
    NodeStateSet,
)
from engine.market.ledger.check import checked
from engine.market.ledger.entries import Entry, Money
from engine.market.ledger.rules import LedgerRules
from tests.market.ledger.market import LedgerMarket

Legs = list[tuple[str, int]]
PARTS = {"network_fee_ppm": 50_000, "burn_ppm": 10_001, "make_whole_ppm": 333}


@pytest.fixture(scope="module")
def honest() -> list[AnyEvent]:
    """A deposit, a credit, a lease that is settled, moved and released, and one that completes."""
    market = LedgerMarket(LedgerRules(settlement_period_s=600, **PARTS))
    market.deposit(40_000_000)
    first = market.deploy(11, duration_s=7_200)
    market.deploy(3, "bob", duration_s=1_000)
    market.wait(601)
    market.move(first.lease_id)
    market.wait(700)
    market.release(first.lease_id)
    assert checked(market.events).faults == []
    return market.events


def place_of(events: list[AnyEvent], kind: type, number: int = 0) -> int:
    return [place for place, event in enumerate(events) if isinstance(event, kind)][number]


def with_entries(event: AnyEvent, change: Callable[[list[Entry]], list[Entry]]) -> AnyEvent:
    assert event.money is not None
    money = msgspec.structs.replace(event.money, entries=change(list(event.money.entries)))
    return msgspec.structs.replace(event, money=money)


def replaced(events: list[AnyEvent], place: int, change: Callable[[list[Entry]], list[Entry]]) -> list[AnyEvent]:
    return [*events[:place], with_entries(events[place], change), *events[place + 1 :]]


def legs_of(kind: str, change: Callable[[Legs], Legs]) -> Callable[[list[Entry]], list[Entry]]:
    """Change the legs of the entries of a kind."""
    return lambda entries: [
        Entry(each.kind, each.subject, change(list(each.legs))) if each.kind == kind else each for each in entries
    ]


def shifted(amount: int, giver: int, taker: int) -> Callable[[Legs], Legs]:
    """So much from one leg to another."""

    def change(legs: Legs) -> Legs:
        legs[giver] = (legs[giver][0], legs[giver][1] - amount)
        legs[taker] = (legs[taker][0], legs[taker][1] + amount)
        return legs

    return change


def without(kind: str) -> Callable[[list[Entry]], list[Entry]]:
    return lambda entries: [each for each in entries if each.kind != kind]


def sent_to(account: str) -> Callable[[Legs], Legs]:
    return lambda legs: [*legs[:-1], (account, legs[-1][1])]


PLANTED: dict[str, tuple[type, int, Callable[[list[Entry]], list[Entry]], str]] = {
    "lost refund": (LeaseEnded, 1, without("REFUND"), "ESCROW_LEFT"),
    "refund to another": (LeaseEnded, 1, legs_of("REFUND", sent_to("tenants/bob")), "ROUTE"),
    "unbalanced": (LeaseEnded, 0, legs_of("SETTLEMENT", lambda legs: legs[:-1]), "UNBALANCED"),
    "double charge": (LeasesSettled, 0, lambda entries: [*entries, *entries], "CHARGE"),
    "a settlement forgotten": (LeasesSettled, 0, lambda entries: entries[1:], "CHARGE"),
    "negative escrow": (
        LeaseStarted,
        0,
        legs_of("ESCROW", lambda legs: [(a, v // 9) for a, v in legs]),
        "NEGATIVE",
    ),
    "escrow short": (LeaseStarted, 0, legs_of("ESCROW", lambda legs: [(a, v // 9) for a, v in legs]), "AMOUNT"),
    "rounding leak to a supplier": (LeaseEnded, 0, legs_of("SETTLEMENT", shifted(1, 1, -1)), "CHARGE"),
    "rounding leak while it runs": (LeasesSettled, 0, legs_of("SETTLEMENT", shifted(1, 0, -1)), "CHARGE"),
    "rounding leak at a move": (LeaseMoved, 0, legs_of("SETTLEMENT", shifted(1, 0, -1)), "CHARGE"),
    "leak from the refund": (LeaseEnded, 1, legs_of("REFUND", shifted(-1, 0, -1)), "ESCROW_LEFT"),
    "charged a second too much": (LeaseEnded, 1, legs_of("SETTLEMENT", shifted(1_000, 0, -1)), "CHARGE"),
    "no network fee": (
        LeaseEnded,
        0,
        legs_of("SETTLEMENT", lambda legs: [("suppliers/acme" if a == "network-fee" else a, v) for a, v in legs]),
        "CHARGE",
    ),
    "a stranger is paid": (LeaseEnded, 0, legs_of("SETTLEMENT", sent_to("suppliers/mallory")), "CHARGE"),
    "paid out of another's escrow": (
        LeasesSettled,
        0,
        legs_of("SETTLEMENT", lambda legs: [("escrows/other", legs[0][1]), *legs[1:]]),
        "ROUTE",
    ),
    "paid to a tenant": (LeaseEnded, 0, legs_of("SETTLEMENT", sent_to("tenants/mallory")), "ROUTE"),
    "credited too much": (LeaseStarted, 1, legs_of("DEV_CREDIT", shifted(5, 0, -1)), "AMOUNT"),
    "an unknown kind": (
        LeaseEnded,
        0,
        lambda entries: [Entry("GIFT", each.subject, each.legs) for each in entries],
        "ROUTE",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(honest: list[AnyEvent], name: str) -> None:
    """Law 6 can be broken, and is then reported at the event that broke it."""
    kind, number, change, code = PLANTED[name]
    place = place_of(honest, kind, number)
    faults = checked(replaced(honest, place, change)).faults
    assert code in {fault.code for fault in faults}, faults
    assert place + 1 in {fault.sequence for fault in faults} or code == "NEGATIVE"


@pytest.fixture(scope="module")
def changing() -> list[AnyEvent]:
    """Leases on falling prices: extended, shrunk, repriced up and down, taken back after notice."""
    market = LedgerMarket(LedgerRules(settlement_period_s=600, **PARTS))
    market.publish(2_400_000, 1_300_000, 1_200_003)
    firm = market.deploy(17, duration_s=9_000).lease_id
    loose = market.deploy(19, "bob", duration_s=9_000, interruptible=True).lease_id
    bidder = market.deploy(
        3, "carol", duration_s=9_000, interruptible=True, max_price_micro_usd_per_gpu_hour=1_700_000
    )
    market.wait(1_801)
    market.extend(firm, 4_000)
    market.shrink(firm, 5)
    market.publish(2_300_000, 1_300_000, 1_600_001)
    market.wait(601)
    market.publish(2_300_000, 1_300_000, 1_000_000)
    market.publish(2_300_000, 1_300_000, 1_800_000)
    market.wait(2_000)
    assert market.state.leases[bidder.lease_id].end_reason == "OUTBID"
    market.release(loose, "bob")
    market.wait(20_000)
    assert checked(market.events).faults == []
    return market.events


def more(name: str, amount: int, event: AnyEvent) -> AnyEvent:
    """The event with another amount in one of its fields."""
    return msgspec.structs.replace(event, **{name: getattr(event, name) + amount})


CHANGED: dict[str, tuple[type, int, Callable[[AnyEvent], AnyEvent], str]] = {
    "an extension that costs more than told": (
        LeaseExtended,
        0,
        lambda event: with_entries(event, legs_of("ESCROW", shifted(1, 0, -1))),
        "AMOUNT",
    ),
    "an extension for nothing": (LeaseExtended, 0, lambda event: with_entries(event, without("ESCROW")), "AMOUNT"),
    "an extension at another price": (LeaseExtended, 0, partial(more, "amount_micro_usd", 2), "CHARGE"),
    "a shrink whose refund is lost": (
        LeaseShrunk,
        0,
        lambda event: with_entries(event, without("REFUND")),
        "AMOUNT",
    ),
    "a shrink that pays back what was used": (LeaseShrunk, 0, partial(more, "refund_micro_usd", 10**8), "CHARGE"),
    "a shrink that forgets what is due": (LeaseShrunk, 0, partial(more, "earned_micro_usd", -9), "CHARGE"),
    "a shrink after which those who leave are not paid": (
        LeaseShrunk,
        0,
        lambda event: with_entries(event, without("SETTLEMENT")),
        "CHARGE",
    ),
    "a dearer price that is not charged": (
        LeaseRepriced,
        0,
        lambda event: with_entries(more("amount_micro_usd", -event.amount_micro_usd, event), without("ESCROW")),
        "CHARGE",
    ),
    "a price that pays back too much": (LeaseRepriced, 1, partial(more, "refund_micro_usd", 1), "CHARGE"),
    "paid before it is due": (LeasesSettled, 0, lambda event: more("at_us", -60 * 10**6, event), "CHARGE"),
    "who was outbid gets less back": (LeaseEnded, 0, partial(more, "refund_micro_usd", -1), "CHARGE"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_planted_bug_in_a_change_is_found(changing: list[AnyEvent], name: str) -> None:
    """Law 6, for what changes a lease, at prices that follow a curve: extensions, shrinks, new prices, notices."""
    kind, number, change, code = CHANGED[name]
    place = place_of(changing, kind, number)
    faults = checked([*changing[:place], change(changing[place]), *changing[place + 1 :]]).faults
    assert (place + 1, code) in {(fault.sequence, fault.code) for fault in faults}, faults


@pytest.mark.parametrize("kind", [LeaseStarted, LeaseMoved, LeasesSettled, LeaseEnded])
def test_an_event_that_lost_its_money_is_found(honest: list[AnyEvent], kind: type) -> None:
    """Law 6: nothing that must be booked is left out."""
    place = place_of(honest, kind)
    bare = msgspec.structs.replace(honest[place], money=None)
    assert "UNBOOKED" in {fault.code for fault in checked([*honest[:place], bare, *honest[place + 1 :]]).faults}


@pytest.mark.parametrize("kind", [LeaseStarted, LeaseMoved, LeasesSettled, LeaseEnded])
def test_an_event_told_twice_is_found(honest: list[AnyEvent], kind: type) -> None:
    """Law 6: a lease's money moves once."""
    place = place_of(honest, kind)
    assert checked([*honest[: place + 1], *honest[place:]]).faults


@pytest.mark.parametrize("kind", [LeaseStarted, LeaseMoved])
def test_an_event_left_out_is_found(honest: list[AnyEvent], kind: type) -> None:
    """Law 6: what comes later does not fit. An end or a settlement left out only the chain of hashes finds."""
    place = place_of(honest, kind)
    assert checked([*honest[:place], *honest[place + 1 :]]).faults


def test_money_without_a_reason_is_found(honest: list[AnyEvent]) -> None:
    """Law 6: only what happens to leases and funds moves money."""
    gift = Entry("DEPOSIT", "t", [("outside/mallory", -5), ("tenants/mallory", 5)])
    event = NodeStateSet(at_us=honest[-1].at_us, node=0, state="READY", money=Money([gift]))
    assert [fault.code for fault in checked([*honest, event]).faults] == ["STRAY"]


def test_leases_from_before_the_books_are_told_apart(honest: list[AnyEvent]) -> None:
    """A journal that began without a ledger is not wrong: its leases are counted as unbooked."""
    old = [
        msgspec.structs.replace(event, money=None)
        for event in honest
        if isinstance(event, LeaseStarted | LeaseMoved | LeaseEnded) or type(event).__name__ == "FleetLoaded"
    ]
    check = checked(old)
    assert (check.faults, check.unbooked, check.leases) == ([], 2, 0)


def test_a_part_whose_hourly_price_is_rounded_is_no_fault() -> None:
    """Law: an extension costs its exact seconds, though the price of a part is shown in whole micro-dollars."""
    market = LedgerMarket(LedgerRules(settlement_period_s=600, **PARTS))
    market.publish(2_500_000, 2_500_000, 1_055_636)
    lease = market.deploy(1, duration_s=59, interruptible=True, gpu_milli=999)
    market.extend(lease.lease_id, 9_001)
    assert checked(market.events).faults == []
