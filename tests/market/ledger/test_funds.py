"""Deposits, withdrawals and credit: who may spend what."""

from __future__ import annotations

import msgspec
import pytest

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import AuditFailed, IdempotencyConflict, InsufficientFunds, InvalidInput
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.market import commands
from engine.market.apply import apply
from engine.market.events import Key, LeaseEnded, LeaseStarted, PlanApplied, QuoteIssued
from engine.market.ledger.bookings import with_money
from engine.market.ledger.check import checked
from engine.market.ledger.rules import LedgerRules
from engine.planning.plan_terms import Place, sold_lines, sold_terms
from tests.market.ledger.market import LedgerMarket

PAID = LedgerRules(require_deposit=True)


def test_a_deploy_without_funds_says_how_much_is_missing() -> None:
    """Law 6: refused with the missing amount, nothing changed; with just that amount it goes through, to zero."""
    market = LedgerMarket(PAID)
    market.deposit(5)
    version = market.state.version
    with pytest.raises(InsufficientFunds) as refused:
        market.deploy(8, duration_s=3_600)
    assert market.state.version == version
    missing = int(refused.value.metadata["missing_micro_usd"])
    assert int(refused.value.metadata["needed_micro_usd"]) == missing + 5
    market.deposit(missing - 1)
    with pytest.raises(InsufficientFunds, match="1 are missing"):
        market.deploy(8, duration_s=3_600)
    market.deposit(1)
    market.deploy(8, duration_s=3_600)
    assert market.tenant() == 0


def test_credit_is_visible_and_only_what_is_missing() -> None:
    """In development mode what a tenant lacks is credited, by an entry; a refund is spent first the next time."""
    market = LedgerMarket()
    market.deposit(1_000_000)
    lease = market.deploy(8, duration_s=3_600)
    assert lease.money is not None
    assert [entry.kind for entry in lease.money.entries] == ["DEV_CREDIT", "ESCROW"]
    credited = lease.terms.total_micro_usd - 1_000_000
    assert market.balance("dev-credits/alice") == -credited
    market.release(lease.lease_id)
    assert market.tenant() == lease.terms.total_micro_usd
    again = market.deploy(8, duration_s=3_600)
    assert again.money is not None and [entry.kind for entry in again.money.entries] == ["ESCROW"]


def test_credit_is_not_paid_out() -> None:
    """Law 6: nobody withdraws more than was deposited."""
    market = LedgerMarket()
    lease = market.deploy(8, duration_s=3_600)
    market.release(lease.lease_id)
    assert market.tenant() > 0
    with pytest.raises(InsufficientFunds):
        market.do(commands.WithdrawFunds("alice", 1))
    market.deposit(7)
    market.deploy(8, duration_s=60)
    market.wait(60)
    market.do(commands.WithdrawFunds("alice", 7))
    with pytest.raises(InsufficientFunds):
        market.do(commands.WithdrawFunds("alice", 1))
    assert (market.balance("outside/alice"), checked(market.events).faults) == (0, [])


def test_a_release_refunds_the_seconds_that_did_not_start() -> None:
    """What is charged for 10.5 s is the price of 11 s; the rest comes back, the suppliers keep 95 %."""
    market = LedgerMarket(PAID)
    market.deposit(10**9)
    lease = market.deploy(1, duration_s=3_600)
    market.wait(10.5)
    market.release(lease.lease_id)
    charged = 10**9 - market.tenant()
    assert charged == -(-lease.terms.total_micro_usd * 11 // 3_600)  # what goes back is rounded down
    assert market.balance("network-fee") == charged * 50_000 // 1_000_000
    assert market.balance("suppliers/acme") == charged - market.balance("network-fee")


def test_what_was_paid_out_is_not_given_back() -> None:
    """Law 6: a refund that would take from suppliers what they were paid is no event: the decision fails."""
    market = LedgerMarket(LedgerRules(settlement_period_s=600))
    lease = market.deploy(8, duration_s=3_600)
    market.wait(600)
    whole = lease.terms.total_micro_usd
    ended = LeaseEnded(
        at_us=market.now_us,
        lease_id=lease.lease_id,
        reason="NODE_LOST",
        ended_at_us=lease.at_us,
        refund_micro_usd=whole,
    )
    with pytest.raises(AuditFailed, match="take back"):
        with_money(market.state, [ended])


def test_an_extension_is_set_aside_like_a_start() -> None:
    """Law 6: without the funds it is refused with the missing amount, and the lease ends when it would have."""
    market = LedgerMarket(PAID)
    market.deposit(30_000_000)
    lease = market.deploy(8, duration_s=3_600)
    left = market.tenant()
    with pytest.raises(InsufficientFunds) as refused:
        market.extend(lease.lease_id, 20 * 3_600)
    assert market.tenant() == left
    market.deposit(int(refused.value.metadata["missing_micro_usd"]))
    market.extend(lease.lease_id, 20 * 3_600)
    assert market.tenant() == 0
    market.wait(21 * 3_600)
    assert market.earned() == 30_000_000 + int(refused.value.metadata["missing_micro_usd"])
    told = lease.terms.network_fee_micro_usd + market.state.leases[lease.lease_id].network_fee_micro_usd
    assert 0 < market.balance("network-fee") < told
    assert checked(market.events).faults == []


def test_who_cannot_pay_a_higher_price_gets_notice_and_others_pay_it() -> None:
    """Law 6: a reprice without funds fails nobody's settlement: that lease ends after notice, at its old price."""
    market = LedgerMarket(PAID)
    market.publish(2_000_000, 2_000_000, 1_500_000)
    leases = {}
    for tenant in ("poor", "rich"):
        market.deposit(12_000_000 if tenant == "poor" else 10**9, tenant)
        leases[tenant] = market.deploy(8, tenant, duration_s=3_600, interruptible=True).lease_id
    market.publish(2_000_000, 2_000_000, 1_900_000)
    poor, rich = (market.state.leases[leases[tenant]] for tenant in ("poor", "rich"))
    assert (poor.reclaim_reason, poor.paid_micro_usd) == ("ESCROW_EXHAUSTED", 12_000_000)
    assert rich.runs and rich.paid_micro_usd > 15_000_000
    market.wait(3_600)
    assert (poor.end_reason, market.tenant("poor")) == ("ESCROW_EXHAUSTED", 12_000_000 * 3_480 // 3_600)
    assert rich.end_reason == "COMPLETED"
    assert checked(market.events).faults == []


def test_the_fee_told_is_the_fee_charged() -> None:
    """The network's part that the price showed is what the network gets, to the micro-dollar."""
    market = LedgerMarket(LedgerRules(network_fee_ppm=33_333))
    lease = market.deploy(13, duration_s=4_000)
    market.do(commands.SetLedgerRules(LedgerRules(network_fee_ppm=70_000)))
    market.wait(4_000)
    assert market.balance("network-fee") == lease.terms.network_fee_micro_usd > 0


def test_a_quote_keeps_its_fee() -> None:
    """Law 5: a quote deployed after the rules changed pays the network what it told."""
    market = LedgerMarket(LedgerRules(network_fee_ppm=33_333))
    (quote,) = market.do(commands.IssueQuote("alice", ClusterRequest(8, duration_s=600), 60))
    assert isinstance(quote, QuoteIssued)
    market.do(commands.SetLedgerRules(LedgerRules(network_fee_ppm=70_000)))
    market.do(commands.DeployQuote("alice", quote.quote_id))
    market.wait(600)
    assert market.balance("network-fee") == quote.terms.network_fee_micro_usd > 0


def test_the_spread_of_a_hold_is_due_at_once() -> None:
    """Who held capacity and releases the lease at once pays for the hold, and for nothing else."""
    market = LedgerMarket()
    (quote,) = market.do(commands.IssueQuote("alice", ClusterRequest(8, duration_s=600), 60))
    assert isinstance(quote, QuoteIssued)
    terms = msgspec.structs.replace(quote.terms, spread_micro_usd=1_234)
    started = LeaseStarted(
        at_us=market.now_us, lease_id="l-1", tenant_id="alice", terms=terms, ends_at_us=market.now_us + 600_000_000
    )
    (booked,) = with_money(market.state, [started])
    apply(market.state, booked)
    market.events.append(booked)
    market.release("l-1")
    assert market.earned() == 1_234 == terms.total_micro_usd - market.tenant()
    assert checked(market.events).faults == []


def test_a_plan_starts_what_can_be_paid() -> None:
    """Law 2: leases of a plan that its tenant cannot pay are left out whole, with the reason."""
    market = LedgerMarket(PAID)
    inventory, gpus = market.state.inventory, ClusterRequest(8, duration_s=3_600)
    starts = []
    for number in range(3):
        nodes, prices = inventory.nodes.rank[[number]], inventory.nodes.ask_micro_usd[[number]].copy()
        lines = sold_lines(inventory, 1, 0 * nodes, nodes, 8 + 0 * nodes, prices, nodes >= 0)
        place, charged = Place(nodes, 8 + 0 * nodes, -1), lines.priced(inventory, 0, 3_600)
        terms = sold_terms(gpus, place, prices, charged, market.state.fleet_version)
        starts.append(commands.PlannedStart(terms, prices))
    market.deposit(sum(start.terms.total_micro_usd for start in starts[:2]))
    changes = commands.PlanChanges(market.state.fleet_version, (), (), tuple(starts))
    applied = market.do(commands.ApplyPlan("alice", "p", changes))[-1]
    assert isinstance(applied, PlanApplied)
    assert [outcome.reason for outcome in applied.outcomes] == ["", "", "INSUFFICIENT_FUNDS"]
    assert market.tenant() == 0
    market.wait(3_600)
    assert market.balance("network-fee") > 0
    assert checked(market.events).faults == []


def test_the_same_key_deposits_once() -> None:
    """A repeated deposit has no second effect; another amount under the same key is refused."""
    market = LedgerMarket(PAID)
    key = Key("alice", "Deposit", "k", b"ten")
    market.do(commands.DepositFunds("alice", 10, key))
    assert market.do(commands.DepositFunds("alice", 10, key)) == []
    assert market.tenant() == 10
    with pytest.raises(IdempotencyConflict):
        market.do(commands.DepositFunds("alice", 11, Key("alice", "Deposit", "k", b"eleven")))


def test_money_can_be_counted() -> None:
    """Law 7: no more comes in than 64 bits can count, by deposit or by credit."""
    market = LedgerMarket()
    market.deposit(MAX_TOTAL_MICRO_USD - 10)
    with pytest.raises(InvalidInput):
        market.deposit(11, "bob")
    with pytest.raises(InsufficientFunds):
        market.deploy(1, "bob", duration_s=3_600)
    market.deposit(10, "bob")


@pytest.mark.parametrize(
    "fields",
    [{"network_fee_ppm": 500_001}, {"burn_ppm": -1}, {"settlement_period_s": 59}, {"statement_kept_s": 0}],
)
def test_rules_out_of_range(fields: dict[str, int]) -> None:
    """Law 9: every rule has a range."""
    with pytest.raises(InvalidInput) as refused:
        LedgerRules(**fields)
    assert [each.field for each in refused.value.violations] == list(fields)


def test_rules_change_once() -> None:
    """Setting the rules that are in force is no event."""
    market = LedgerMarket(PAID)
    assert market.do(commands.SetLedgerRules(PAID)) == []
    assert len(market.do(commands.SetLedgerRules(LedgerRules()))) == 1
