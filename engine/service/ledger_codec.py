"""Messages of LedgerService."""

from __future__ import annotations

from walras.v1 import ledger_service_pb2 as pb

from engine.domain.errors import InvalidInput, Violation
from engine.market.ledger import accounts
from engine.market.ledger.books import Books, Line
from engine.market.ledger.decision import withdrawable
from engine.market.ledger.entries import DEPOSIT, WITHDRAWAL
from engine.market.ledger.statement import Page
from engine.market.state import MarketState
from engine.service.fields import page_token

TENANT, SUPPLIER = "TENANT", "SUPPLIER"
TRANSFERS, LEASES = "transfers/", "leases/"


def account_kind(text: str) -> str:
    """TENANT or SUPPLIER; TENANT if absent."""
    if text not in ("", TENANT, SUPPLIER):
        raise InvalidInput([Violation("account_kind", f"must be {TENANT} or {SUPPLIER}, got {text[:60]!r}")])
    return text or TENANT


def account_of(kind: str, caller: str) -> str:
    """The caller's account of a kind."""
    return accounts.supplier(caller) if kind == SUPPLIER else accounts.tenant(caller)


def balance_message(state: MarketState, kind: str, caller: str) -> pb.Balance:
    """What the caller has."""
    balances = state.books.balances
    message = pb.Balance(account_kind=kind, balance_micro_usd=balances.get(account_of(kind, caller), 0))
    if kind == TENANT:
        message.escrow_micro_usd = sum(
            balances.get(accounts.escrow(lease_id), 0) for lease_id in state.leases_of.get(caller, ())
        )
        message.withdrawable_micro_usd = withdrawable(state, caller)
        message.dev_credit_micro_usd = -balances.get(accounts.dev_credit(caller), 0)
    return message


def page_message(books: Books, page: Page) -> pb.ListEntriesResponse:
    """A page of a statement."""
    return pb.ListEntriesResponse(
        entries=[_entry(line) for line in page.lines],
        next_page_token="" if page.next_number is None else page_token(str(page.next_number)),
        opening_balance_micro_usd=page.opening_micro_usd,
        closing_balance_micro_usd=page.closing_micro_usd,
        retention_s=books.rules.statement_kept_s,
    )


def _entry(line: Line) -> pb.StatementEntry:
    prefix = TRANSFERS if line.kind in (DEPOSIT, WITHDRAWAL) else LEASES
    return pb.StatementEntry(
        time_us=line.at_us,
        kind=line.kind,
        subject=prefix + line.subject,
        amount_micro_usd=line.amount_micro_usd,
        balance_micro_usd=line.balance_micro_usd,
    )
