"""What a tenant can still pay for while a decision with several leases is being made."""

from __future__ import annotations

from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.market.ledger import accounts
from engine.market.state import MarketState


def spendable(state: MarketState, tenant_id: str) -> int:
    """What a tenant has outside of escrows, micro-USD."""
    return state.books.balances.get(accounts.tenant(tenant_id), 0)


class Purse:
    """Counts down. Refunds of the same decision do not count: they are there for the next one."""

    def __init__(self, state: MarketState, tenant_id: str) -> None:
        books = state.books
        credit = 0 if books.rules.require_deposit else MAX_TOTAL_MICRO_USD - books.circulating_micro_usd
        self.left_micro_usd = spendable(state, tenant_id) + credit

    def pay(self, total_micro_usd: int) -> bool:
        """Take out a total if it is there; whether it was."""
        if total_micro_usd > self.left_micro_usd:
            return False
        self.left_micro_usd -= total_micro_usd
        return True
