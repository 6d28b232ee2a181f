"""The books of a simulated month: 100,000 leases by the real decisions, settled hourly, checked and replayed."""

from __future__ import annotations

import random

from engine.market.ledger import accounts
from engine.market.ledger.check import checked
from engine.market.ledger.rules import LedgerRules
from engine.market.state import ACTIVE
from tests.full_size import size
from tests.market.ledger.market import LedgerMarket

MONTH_S, LEASES = 30 * 24 * 3_600, size(1_500, 100_000)
SHARES = {"burn_ppm": 10_007, "make_whole_ppm": 503}


def month(seed: int) -> LedgerMarket:
    """Leases of 50 tenants at random times, on uneven asks of five suppliers; many are released early."""
    draw = random.Random(seed)
    rules = LedgerRules(settlement_period_s=3_600, require_deposit=True, **SHARES)
    market = LedgerMarket(rules, nodes=size(100, 2_000))
    for number in range(50):
        market.deposit(10**12 + number, f"tenant-{number}")
    recent: list[tuple[str, str]] = []
    for _ in range(LEASES):
        market.wait(draw.expovariate(LEASES / MONTH_S))
        tenant, gpus = f"tenant-{draw.randrange(50)}", draw.choice((1, 1, 1, 1, 2, 4, 8, 16, 32))
        lease = market.deploy(gpus, tenant, duration_s=60 + min(200_000, int(draw.lognormvariate(9.1, 1))))
        recent = [*recent[-40:], (lease.lease_id, tenant)]
        lease_id, owner = draw.choice(recent)
        known = market.state.leases.get(lease_id)
        if draw.random() < 0.3 and known is not None and known.state == ACTIVE:
            market.release(lease_id, owner)
    market.wait(400_000)
    return market


def test_the_books_of_a_month_balance_to_the_micro_dollar() -> None:
    """Law 6: deposits = tenants + suppliers + fee + burn + make-whole, nothing is left in escrow; every event
    holds; the journal alone gives the same books."""
    market = month(1)
    books = market.state.books
    assert not books.escrows and not books.unsettled
    assert not any(name.startswith(accounts.ESCROWS) for name in books.balances)
    names = [f"tenant-{number}" for number in range(50)]
    left = sum(map(market.tenant, names))
    deposited = 50 * 10**12 + sum(range(50))
    assert -sum(market.balance(accounts.outside(name)) for name in names) == deposited == left + market.earned()
    check = checked(market.events)
    assert (check.faults, check.leases) == ([], LEASES)
    assert check.flows["ESCROW"] == check.flows["SETTLEMENT"] + check.flows["REFUND"]
    assert check.flows["REFUND"] > 0 < market.balance(accounts.BURN)
    assert market.replayed().hash() == market.state.hash()
