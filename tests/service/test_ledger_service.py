"""LedgerService over gRPC: who sees what, what a page holds, and what a lease does to an account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from walras.v1 import ledger_service_pb2 as pb
from walras.v1.order_service_pb2 import Order, RetryPolicy

from engine.domain.errors import InvalidInput, PermissionDenied
from engine.service.engine import Engine
from engine.service.identity import enter
from engine.service.ledger_service import LedgerService
from engine.service.ledger_verify import verify_ledger
from engine.service.options import LedgerSettings, ServerOptions, read_config
from engine.trust.permissions import METHODS
from engine.trust.principal import Principal, Role
from tests.service.ledgers import Account
from tests.service.loopback import Book, Loopback, refused, running, small_fleet

HOUR_S = 3_600


@pytest.fixture
def paid(tmp_path: Path) -> Iterator[Loopback]:
    """An engine in development mode that gives no credit."""
    for loopback in running(tmp_path / "paid", ledger=LedgerSettings(require_deposit=True)):
        loopback.client.load(small_fleet())
        yield loopback


def test_a_lease_from_deposit_to_refund(paid: Loopback) -> None:
    """Law 6, as the tenant and the supplier see it: deposit = paid + refund + remaining, and 95 % is earned."""
    alice, acme = Account(paid.client), Account(paid.client.as_tenant("acme"))
    assert alice.deposit(30_000_000).kind == "DEPOSIT"
    lease = paid.client.deploy(gpu_count=8, duration_s=HOUR_S, allowed_suppliers=["acme"])
    total = lease.price.total_micro_usd
    balance = alice.balance()
    assert (balance.balance_micro_usd, balance.escrow_micro_usd) == (30_000_000 - total, total)
    paid.clock.advance_s(900)
    paid.client.release(lease.name)
    charged = total // 4
    assert alice.balance().balance_micro_usd == 30_000_000 - charged
    assert acme.balance("SUPPLIER").balance_micro_usd == charged - charged * 5 // 100
    mine = alice.entries()
    assert [each.kind for each in mine.entries] == ["DEPOSIT", "ESCROW", "REFUND"]
    assert [each.subject for each in mine.entries[1:]] == [lease.name, lease.name]
    assert mine.closing_balance_micro_usd == alice.balance().balance_micro_usd
    (earned,) = acme.entries(account_kind="SUPPLIER").entries
    assert (earned.kind, earned.amount_micro_usd) == ("SETTLEMENT", charged - charged * 5 // 100)


def test_without_funds_the_answer_is_how_much_is_missing(paid: Loopback) -> None:
    """Law 9: FAILED_PRECONDITION, INSUFFICIENT_FUNDS, the missing amount; nothing is changed."""
    Account(paid.client).deposit(1)
    before = paid.hash()
    refusal = refused(paid.client.deploy, gpu_count=8, duration_s=HOUR_S)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_FUNDS")
    assert int(refusal.metadata["missing_micro_usd"]) == int(refusal.metadata["needed_micro_usd"]) - 1 > 0
    assert paid.hash() == before
    quote = paid.client.quote(gpu_count=8, duration_s=HOUR_S)
    assert refused(paid.client.deploy_quote, quote.name).reason == "INSUFFICIENT_FUNDS"
    Account(paid.client).deposit(int(refusal.metadata["missing_micro_usd"]))
    assert paid.client.deploy_quote(quote.name).name


def test_an_order_waits_for_money(paid: Loopback) -> None:
    """Law 6: an order its tenant cannot pay stays open and keeps nobody else waiting; a deposit fills it."""
    poor, rich = paid.client, paid.client.as_tenant("bob")
    Account(rich).deposit(100_000_000)
    wish = {"gpu_models": ["H100"], "gpu_count": 8, "max_price_micro_usd_per_gpu_hour": 3_000_000}
    first, second = poor.place(**wish, ttl_s=600), rich.place(**wish, ttl_s=600)
    once = poor.place(**wish, ttl_s=600, retry=RetryPolicy(once=True))
    paid.settle()
    assert poor.order(first.name).state == Order.STATE_OPEN
    assert rich.order(second.name).state == Order.STATE_FILLED
    assert (poor.order(once.name).state, poor.order(once.name).detail) == (
        Order.STATE_EXPIRED,
        "INSUFFICIENT_FUNDS",
    )
    Account(poor).deposit(100_000_000)
    paid.settle()
    assert poor.order(first.name).state == Order.STATE_FILLED


def test_in_development_a_tenant_is_credited(loopback: Loopback) -> None:
    """`make demo` and the README need no deposit: what is missing is credited, and shown."""
    lease = loopback.client.deploy(gpu_count=8, duration_s=HOUR_S)
    balance = Account(loopback.client).balance()
    assert balance.dev_credit_micro_usd == lease.price.total_micro_usd == balance.escrow_micro_usd
    assert balance.withdrawable_micro_usd == 0
    assert [each.kind for each in Account(loopback.client).entries().entries] == ["DEV_CREDIT", "ESCROW"]


def test_long_leases_are_settled_while_they_run(paid: Loopback) -> None:
    """A day's price reaches the supplier after a day, on the engine's own tick."""
    Account(paid.client).deposit(10**9)
    acme = Account(paid.client.as_tenant("acme"))
    lease = paid.client.deploy(gpu_count=1, duration_s=72 * HOUR_S, allowed_suppliers=["acme"])
    paid.clock.advance_s(25 * HOUR_S)
    third = lease.price.total_micro_usd * 25 // 72
    earned = acme.balance("SUPPLIER").balance_micro_usd
    assert abs(earned - third * 95 // 100) <= 2
    assert paid.client.lease(lease.name).state == 1


def test_pages_add_up(paid: Loopback) -> None:
    """Law 7: pages of any size give the same entries; opening + amounts = closing, page after page."""
    alice = Account(paid.client)
    for amount in range(1, 24):
        alice.deposit(amount)
        paid.clock.advance_s(1)
    whole = list(alice.entries(page_size=1_000).entries)
    assert [each.amount_micro_usd for each in whole] == list(range(1, 24))
    found: list[Any] = []
    token, before = "", 0
    while True:
        page = alice.entries(page_size=5, page_token=token)
        assert page.opening_balance_micro_usd == before
        before = page.closing_balance_micro_usd
        assert before == page.opening_balance_micro_usd + sum(each.amount_micro_usd for each in page.entries)
        found += page.entries
        if not (token := page.next_page_token):
            break
    assert found == whole and before == alice.balance().balance_micro_usd
    start, end = whole[4].time_us, whole[9].time_us
    assert list(alice.entries(start_time_us=start, end_time_us=end).entries) == whole[4:9]
    empty = alice.entries(start_time_us=end, end_time_us=start)
    assert not empty.entries and empty.opening_balance_micro_usd == empty.closing_balance_micro_usd


def test_everyone_sees_their_own(paid: Loopback) -> None:
    """Law 8: another's balance and statement are not reachable; a name without an account has nothing."""
    Account(paid.client).deposit(5)
    bob = Account(paid.client.as_tenant("bob"))
    assert bob.balance().balance_micro_usd == 0 and not bob.entries().entries
    assert Account(paid.client).balance("SUPPLIER").balance_micro_usd == 0


def test_withdrawals(paid: Loopback) -> None:
    """Law 6: what was deposited can be withdrawn, no more."""
    alice = Account(paid.client)
    alice.deposit(10)
    assert refused(alice.withdraw, 11).reason == "INSUFFICIENT_FUNDS"
    assert alice.withdraw(10).kind == "WITHDRAWAL"
    assert alice.balance().balance_micro_usd == 0


def test_the_same_key_moves_money_once(paid: Loopback) -> None:
    """Law 4: the same key and body give the same answer; another body is a conflict."""
    alice = Account(paid.client)
    assert alice.deposit(10, "k") == alice.deposit(10, "k")
    assert alice.balance().balance_micro_usd == 10
    assert refused(alice.deposit, 11, "k").code is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda account: account.deposit(0), "amount_micro_usd"),
        (lambda account: account.withdraw(-5), "amount_micro_usd"),
        (lambda account: account.deposit(2**63 - 1) and account.deposit(1), "amount_micro_usd"),
        (lambda account: account.deposit(1, "k" * 129), "idempotency_key"),
        (lambda account: account.balance("BANK"), "account_kind"),
        (lambda account: account.entries(page_size=-1), "page_size"),
        (lambda account: account.entries(page_token="bm9wZQ=="), "page_token"),
    ],
)
def test_bad_input_is_listed(paid: Loopback, call: Callable[[Account], Any], field: str) -> None:
    """Law 9: INVALID_ARGUMENT with the field."""
    refusal = refused(call, Account(paid.client))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))


def test_money_is_the_operators() -> None:
    """Law 8: a tenant's token moves no money, an operator's moves a named tenant's, and each role sees its own."""
    roles = METHODS["LedgerService/Deposit"].roles | METHODS["LedgerService/Withdraw"].roles
    assert roles == {Role.OPERATOR}


def test_the_operator_names_the_account(paid: Loopback) -> None:
    """Law 8: an operator that is no tenant must say whose account it is; a kind needs its credential."""

    async def called(role: Role, method: str, request: Any) -> Any:
        enter(Principal(frozenset({role}), "root", "c", float("inf")))
        return await getattr(LedgerService(paid.engine), method)(request, None)

    def run(role: Role, method: str, request: Any) -> Any:
        return paid.run(called(role, method, request))

    deposit = pb.DepositRequest(account="tenants/alice", amount_micro_usd=7)
    assert run(Role.OPERATOR, "Deposit", deposit).amount_micro_usd == 7
    assert Account(paid.client).balance().balance_micro_usd == 7
    for account in ("", "alice", "tenants/", "suppliers/alice"):
        with pytest.raises(InvalidInput, match="account"):
            run(Role.OPERATOR, "Deposit", pb.DepositRequest(account=account, amount_micro_usd=1))
    assert run(Role.SUPPLIER, "GetBalance", pb.GetBalanceRequest()).account_kind == "SUPPLIER"
    assert run(Role.TENANT, "GetBalance", pb.GetBalanceRequest()).account_kind == "TENANT"
    for role, kind in ((Role.TENANT, "SUPPLIER"), (Role.SUPPLIER, "TENANT")):
        with pytest.raises(PermissionDenied):
            run(role, "GetBalance", pb.GetBalanceRequest(account_kind=kind))


def test_the_files_prove_the_books(paid: Loopback) -> None:
    """Law 6: what is on disk holds, by the checker and by the books that its replay gives."""
    Account(paid.client).deposit(10**9)
    lease = paid.client.deploy(gpu_count=8, duration_s=HOUR_S)
    paid.client.deploy(gpu_count=2, duration_s=3 * HOUR_S)
    paid.clock.advance_s(10)
    paid.client.release(lease.name)
    report = verify_ledger(paid.data_dir)
    assert (report.faults, report.leases, report.leases_running, report.leases_unbooked) == ((), 2, 1, 0)
    assert sum(report.balances.values()) == 0
    assert report.events == paid.engine.state.version


def test_rules_are_set_at_the_start_and_kept(tmp_path: Path) -> None:
    """Deposits are required unless in development mode or said otherwise; the rules are in the journal once."""
    for dev, said, required in (
        (True, None, False),
        (False, None, True),
        (False, False, False),
        (True, True, True),
    ):
        place = tmp_path / f"{dev}-{said}"
        for _ in range(2):
            for loopback in running(place, dev=dev, ledger=LedgerSettings(require_deposit=said)):
                rules = loopback.engine.state.books.rules
                assert (rules.require_deposit, rules.network_fee_ppm) == (required, 50_000)
        engine = Engine(place, Book())
        assert engine.state.version == 1
        engine.close()


def test_settings_of_the_file(tmp_path: Path) -> None:
    """Law 9: the ledger's table is read, and every violation in it is listed."""
    path = tmp_path / "walras.toml"
    path.write_text("[ledger]\nrequire_deposit = false\nsettlement_period_s = 3600")
    settings = ServerOptions(**read_config(path)).ledger
    assert (settings.require_deposit, settings.settlement_period_s) == (False, 3_600)
    path.write_text("[ledger]\nrequire_deposit = 1\nburn_ppm = true\nfee = 3")
    with pytest.raises(InvalidInput) as refusal:
        read_config(path)
    assert {each.field for each in refusal.value.violations} == {
        f"walras.toml ledger.{name}" for name in ("require_deposit", "burn_ppm", "fee")
    }
    path.write_text("[ledger]\nburn_ppm = 900000")
    with pytest.raises(InvalidInput, match="burn_ppm"):
        read_config(path)
