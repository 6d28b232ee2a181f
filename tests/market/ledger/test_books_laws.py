"""Laws of the books under random markets: the real decisions, applied, settled at any times, replayed."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InsufficientFunds, InvalidInput, Refused
from engine.market.events import AnyEvent, LeaseStarted
from engine.market.ledger import accounts
from engine.market.ledger.books import Books
from engine.market.ledger.check import LedgerCheck, checked
from engine.market.ledger.rules import LedgerRules
from engine.market.state import Lease
from tests.full_size import size
from tests.market.ledger.market import NEVER_S, LedgerMarket

TENANTS = ("alice", "bob", "carol")
HOUR_S = 3_600
PARTS = {"network_fee_ppm": 50_000, "burn_ppm": 12_345, "make_whole_ppm": 777}


KINDS = {
    "deploy": 8,
    "release": 3,
    "move": 3,
    "wait": 9,
    "deposit": 2,
    "load": 1,
    "extend": 4,
    "shrink": 3,
    "epoch": 3,
    "drain": 2,
}


def random_month(seed: int, rules: LedgerRules, steps: int = 40) -> LedgerMarket:
    """Everything that can happen to money; what is drawn does not depend on the rules' times."""
    draw, market = random.Random(seed), LedgerMarket(rules)
    leases: list[LeaseStarted] = []
    for _ in range(steps):
        (kind,) = draw.choices(list(KINDS), list(KINDS.values()))
        running = [market.state.leases.get(each.lease_id) for each in leases]
        own = [each for each in running if each is not None and each.runs]
        chosen, number = draw.random(), draw.randrange(10**6)
        lease = own[int(chosen * len(own))] if own else None
        with suppress(Refused, InsufficientFunds, InvalidInput):
            _step(market, kind, random.Random(number), leases, lease)
    return market


def _step(
    market: LedgerMarket, kind: str, draw: random.Random, leases: list[LeaseStarted], lease: Lease | None
) -> None:
    match kind, lease:
        case "deploy", _:
            size_drawn, seconds = draw.choice((1, 2, 3, 5, 8, 13, 21)), draw.choice((1, 59, 3_601, 7_200, 100_000))
            wish = {"interruptible": draw.random() < 0.4, "lock": draw.random() < 0.3}
            wish["max_price_micro_usd_per_gpu_hour"] = draw.choice((None, None, 1_900_000))
            if draw.random() < 0.3:
                size_drawn, wish["gpu_milli"] = 1, draw.choice((1, 160, 333, 500, 999))
            leases.append(market.deploy(size_drawn, draw.choice(TENANTS), duration_s=seconds, **wish))
        case "deposit", _:
            market.deposit(10 ** draw.randrange(4, 10) + draw.randrange(1_000), draw.choice(TENANTS))
        case "load", _:
            market.load([_owned_by_another(market, draw)])
        case "wait", _:
            market.wait(draw.choice((0.000001, 0.5, 1, 61.25, 1_800, 3_600, 40_000)))
        case "epoch", _:
            market.publish(*(draw.randrange(900_000, 2_500_000) for _ in range(3)))
        case "release", Lease():
            market.release(lease.lease_id, lease.tenant_id)
        case "drain", _:
            market.drain_all(draw.choice((600, 20_000)), draw.choice((1, 599.5, 700)))
        case "move", Lease():
            market.move(lease.lease_id)
        case "extend", Lease():
            market.extend(lease.lease_id, draw.choice((1, 77, 3_600, 9_001)), lease.tenant_id)
        case "shrink", Lease():
            market.shrink(lease.lease_id, draw.choice((1, 2)), lease.tenant_id)


def _owned_by_another(market: LedgerMarket, draw: random.Random) -> dict[str, object]:
    """A node that changes hands; leases that run there go on paying whom they were sold by."""
    row = market.state.inventory.frame.row(draw.randrange(10), named=True)
    return {**row, "supplier_id": draw.choice(("acme", "zeta")), "gpu_free": row["gpu_count"]}


def booked(event: AnyEvent) -> list[tuple[str, int]]:
    return [leg for entry in event.money.entries for leg in entry.legs] if event.money else []


@given(st.integers(0, 10**6), st.sampled_from((60, HOUR_S, NEVER_S)), st.booleans())
@settings(max_examples=size(15, 400))
def test_every_entry_sums_to_zero_and_no_account_is_negative(seed: int, period_s: int, paid: bool) -> None:
    """Laws: every entry sums to zero; no account is below zero at any version; the checker finds nothing, and its
    balances are those of the books; replay gives the same books, byte for byte."""
    rules = LedgerRules(settlement_period_s=period_s, require_deposit=paid, **PARTS)
    market = random_month(seed, rules)
    balances = Counter[str]()
    for event in market.events:
        for entry in event.money.entries if event.money else ():
            assert sum(amount for _, amount in entry.legs) == 0
            assert all(amount for _, amount in entry.legs)
            balances.update(dict(entry.legs))
            for account, balance in balances.items():
                assert balance <= 0 if accounts.is_outside(account) else balance >= 0, account
    own = {account: balance for account, balance in market.state.books.balances.items() if balance}
    assert own == {account: balance for account, balance in balances.items() if balance}
    check = checked(market.events)
    assert check.faults == []
    assert own == {account: balance for account, balance in check.balances.items() if balance}
    assert market.replayed().hash() == market.state.hash()


@given(st.integers(0, 10**6))
@settings(max_examples=size(8, 200))
def test_conservation_at_every_time(seed: int) -> None:
    """Law 6: at every version, what came in = tenants + escrows + suppliers + pots; and for every lease what was
    set aside = what was charged + refunded + what remains."""
    market = random_month(seed, LedgerRules(settlement_period_s=600, **PARTS))

    def watch(check: LedgerCheck) -> None:
        came_in = check.flows["DEPOSIT"] + check.flows["DEV_CREDIT"]
        inside = sum(amount for name, amount in check.balances.items() if not accounts.is_outside(name))
        assert came_in == inside
        for lease_id, reckoning in check.running.items():
            assert check.balances[accounts.escrow(lease_id)] == reckoning.left >= 0

    assert checked(market.events, watch).faults == []


@given(st.integers(0, 10**6))
@settings(max_examples=size(8, 200))
def test_when_leases_are_settled_does_not_matter(seed: int) -> None:
    """Law: settled every minute, every hour or only at the end, everyone gets the same once leases are over."""
    ends = []
    for period_s in (60, HOUR_S, NEVER_S):
        market = random_month(seed, LedgerRules(settlement_period_s=period_s, **PARTS))
        market.wait(200_000)
        assert not market.state.books.escrows
        ends.append(sorted(market.state.books.balances.items()))
    assert ends[0] == ends[1] == ends[2]


def test_the_random_markets_reach_everything() -> None:
    """The laws above see every kind of entry, moves, and settlements of leases that run on."""
    kinds, events = set[str](), set[str]()
    for seed in range(12):
        market = random_month(seed, LedgerRules(settlement_period_s=600, require_deposit=seed % 2 == 0, **PARTS))
        kinds |= {entry.kind for event in market.events if event.money for entry in event.money.entries}
        events |= {type(event).__name__ for event in market.events}
    assert kinds == {"DEPOSIT", "DEV_CREDIT", "ESCROW", "SETTLEMENT", "REFUND"}
    assert events >= {"LeaseStarted", "LeaseMoved", "LeaseEnded", "LeasesSettled", "FundsDeposited"}
    assert events >= {"LeaseExtended", "LeaseShrunk", "LeaseRepriced", "LeaseReclaiming", "LeaseSpared"}


def test_books_are_plain_values() -> None:
    """Law 10: written down by their types and read back, the books are the same and go on alike."""
    market = random_month(5, LedgerRules(settlement_period_s=600, **PARTS))
    books = market.state.books
    assert books.escrows and books.statements
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(books), type=Books)
    assert read.facts() == books.facts()
    market.state.books = read
    market.wait(200_000)
    assert checked(market.events).faults == []
    assert market.replayed().hash() == market.state.hash()


@pytest.mark.parametrize("period_s", [60, NEVER_S])
def test_who_owned_the_node_when_it_was_sold_is_paid(period_s: int) -> None:
    """Law: a node that changes hands takes no running lease's money along."""
    market = LedgerMarket(LedgerRules(settlement_period_s=period_s), nodes=1)
    market.deploy(8, duration_s=HOUR_S)
    market.wait(100)
    row = market.state.inventory.frame.row(0, named=True)
    market.load([{**row, "supplier_id": "zeta", "gpu_free": 8}])
    market.wait(HOUR_S)
    assert market.balance("suppliers/zeta") == 0
    assert market.balance("suppliers/acme") == market.earned() - market.balance("network-fee") > 0
    assert checked(market.events).faults == []
