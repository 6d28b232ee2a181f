"""When leases are settled: nobody waits longer than a period, and no decision settles more than so many."""

from __future__ import annotations

import random

from engine.market import commands
from engine.market.ledger import decision
from engine.market.ledger.check import checked
from engine.market.ledger.rules import LedgerRules
from tests.market.ledger.market import LedgerMarket


def test_nobody_waits_longer_than_a_period() -> None:
    """Law: after every tick each running lease was settled within the period, the longest ago stands first, and a
    lease that was not due is left alone."""
    draw, market = random.Random(3), LedgerMarket(LedgerRules(settlement_period_s=600))
    for _ in range(80):
        market.wait(draw.choice((1, 70, 130, 400)))
        if market.state.inventory.unused.sum() > 8:
            market.deploy(draw.choice((1, 2, 3)), duration_s=draw.choice((500, 5_000, 9_000)))
        times = list(market.state.books.unsettled.values())
        assert times == sorted(times)
        assert all(market.now_us - 600_000_000 < at_us <= market.now_us for at_us in times)
        assert market.state.books.unsettled.keys() == market.state.books.escrows.keys()
    assert checked(market.events).faults == []


def test_a_decision_settles_a_bounded_number() -> None:
    """Law: what is due beyond the bound waits for the next tick; the longest ago go first."""
    market = LedgerMarket(LedgerRules(settlement_period_s=600))
    leases = [market.deploy(1, duration_s=9_000).lease_id for _ in range(5)]
    market.now_us += 700_000_000
    books = market.state.books
    assert books.due_for_settlement(market.now_us, 3) == leases[:3]
    (settled,) = market.do(commands.SettleLeases())
    assert settled.money is not None and settled.money.settled == leases
    assert len(leases) < decision.SETTLED_AT_ONCE
    assert market.do(commands.SettleLeases()) == []


def test_one_who_gets_everything() -> None:
    """Law 6: a single supplier without any fee is paid the whole price, however often it is settled."""
    market = LedgerMarket(LedgerRules(settlement_period_s=60, network_fee_ppm=0), nodes=1)
    lease = market.deploy(8, duration_s=1_000)
    for _ in range(20):
        market.wait(61.5)
    assert market.balance("suppliers/acme") == lease.terms.total_micro_usd
    assert checked(market.events).faults == []
