"""What an engine answers to a call of the simulation: what the service reads off the state, in short."""

from __future__ import annotations

from engine.domain.errors import NotFound
from engine.market.decide import made_by, subject_of
from engine.market.events import AnyEvent, FundsDeposited, FundsWithdrawn
from engine.market.lease_decision import owned_lease
from engine.market.order_decision import owned_order
from engine.market.quote_decision import owned_quote
from engine.market.state import MarketState
from tests.simulation.calls import Call, Reply


def answer(state: MarketState, events: list[AnyEvent], call: Call, now_us: int) -> Reply:
    """What the service reads off the state for an answer, in short."""
    transfer = next((e.transfer_id for e in events if isinstance(e, FundsDeposited | FundsWithdrawn)), None)
    if call.what in ("Deposit", "Withdraw"):
        return Reply(state.version, now_us, transfer or subject_of(state, call.key) or "")
    if call.what in ("SetNodeState", "LoadFleet", "PublishPrices", "DrainNode"):
        return Reply(state.version, now_us, subject_of(state, call.key) or "")
    subject = call.subject or made_by(state, events, call.key)
    if call.what == "DeployQuote":
        subject = made_by(state, events, call.key)
    return shown(state, subject, call.tenant, now_us)


def shown(state: MarketState, subject: str, tenant: str, now_us: int) -> Reply:
    """An object as its owner sees it."""
    if subject.startswith("l-"):
        lease = owned_lease(state, tenant, subject)
        firm = lease.terms.total_micro_usd, lease.terms.nodes, lease.starts_at_us
        return Reply(state.version, now_us, subject, lease.tenant_id, firm, lease.ends_at_us)
    if subject.startswith("q-"):
        quote = owned_quote(state, tenant, subject)
        firm = quote.terms.total_micro_usd, quote.terms.nodes, quote.expires_at_us
        return Reply(state.version, now_us, subject, quote.tenant_id, firm, quote.expires_at_us)
    if subject.startswith("o-"):
        order = owned_order(state, tenant, subject)
        return Reply(state.version, now_us, subject, order.tenant_id, (order.placed_at_us,), order.expires_at_us)
    if subject in state.applied:
        return Reply(
            state.version,
            now_us,
            subject,
            state.applied[subject].tenant_id,
            (len(state.applied[subject].outcomes),),
        )
    raise NotFound(subject)


def read(state: MarketState, call: Call, now_us: int) -> Reply:
    """What a read shows."""
    if call.what == "Balance":
        return Reply(state.version, now_us, balance=state.books.balances.get(f"tenants/{call.tenant}", 0))
    if call.what == "List":
        return Reply(state.version, now_us, listed=tuple(state.leases_of.get(call.tenant, ())))
    return shown(state, call.subject, call.tenant, now_us)
