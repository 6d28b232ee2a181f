"""Deciding the ledger's own commands. What their events move is added by `with_money`."""

from __future__ import annotations

from typing import TypeVar

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.market.commands import DepositFunds, SetLedgerRules, SettleLeases, WithdrawFunds
from engine.market.events import AnyEvent, FundsDeposited, FundsWithdrawn, LeasesSettled, LedgerRulesSet
from engine.market.ledger import accounts
from engine.market.ledger.bookings import insufficient_funds
from engine.market.ledger.purse import spendable
from engine.market.state import MarketState

SETTLED_AT_ONCE = 100
"""Leases settled by one event: 3 ms of CPU at flat prices, 30 along curves. More wait for the next second."""

Transferring = DepositFunds | WithdrawFunds
LedgerCommand = Transferring | SettleLeases | SetLedgerRules
Transfer = TypeVar("Transfer", FundsDeposited, FundsWithdrawn)


def decide_ledger(state: MarketState, command: LedgerCommand, now_us: int) -> list[AnyEvent]:
    """The events of a command of the ledger."""
    books = state.books
    match command:
        case DepositFunds():
            _check_room(books.circulating_micro_usd + command.amount_micro_usd)
            return [_transfer(FundsDeposited, state, command, now_us)]
        case WithdrawFunds():
            own = withdrawable(state, command.tenant_id)
            if command.amount_micro_usd > own:
                raise insufficient_funds(command.amount_micro_usd, own)
            return [_transfer(FundsWithdrawn, state, command, now_us)]
        case SettleLeases():
            due = books.due_for_settlement(now_us, SETTLED_AT_ONCE)
            return [LeasesSettled(at_us=now_us, leases=due)] if due else []
        case SetLedgerRules():
            changed = command.rules != books.rules or not books.opened
            return [LedgerRulesSet(at_us=now_us, rules=command.rules)] if changed else []


def withdrawable(state: MarketState, tenant_id: str) -> int:
    """What of that can be paid out: no more than was paid in. Credit can be spent only."""
    paid_in = -state.books.balances.get(accounts.outside(tenant_id), 0)
    return min(spendable(state, tenant_id), paid_in)


def _check_room(circulating: int) -> None:
    if circulating > MAX_TOTAL_MICRO_USD:
        raise InvalidInput([Violation("amount_micro_usd", "makes more money than can be counted in 64 bits")])


def _transfer(kind: type[Transfer], state: MarketState, command: Transferring, now_us: int) -> Transfer:
    return kind(
        at_us=now_us,
        key=command.key,
        transfer_id=f"t-{state.version + 1:010d}",
        tenant_id=command.tenant_id,
        amount_micro_usd=command.amount_micro_usd,
    )
