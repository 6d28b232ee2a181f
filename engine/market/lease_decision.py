"""Deciding on leases that run: releasing and ending them."""

from __future__ import annotations

from engine.domain.errors import NotFound, Refused
from engine.market.commands import ReleaseLease
from engine.market.end_reasons import EndReason
from engine.market.events import AnyEvent, Key, KeyUsed, LeaseEnded, OrderEnded, QuoteEnded
from engine.market.quote_decision import EXPIRED
from engine.market.refunds import refund_at_end
from engine.market.state import RECLAIMING, Lease, MarketState


def owned_lease(state: MarketState, tenant_id: str, lease_id: str) -> Lease:
    """The tenant's lease; another tenant's answers exactly like a missing one."""
    lease = state.leases.get(lease_id)
    if lease is None or lease.tenant_id != tenant_id:
        raise NotFound(f"there is no lease leases/{lease_id}")
    return lease


def still_active(lease: Lease) -> Lease:
    """The lease; Refused if it has ended or is about to."""
    if not lease.runs:
        raise Refused("LEASE_ENDED", f"leases/{lease.lease_id} has ended")
    if lease.state == RECLAIMING:
        raise Refused("LEASE_RECLAIMING", f"leases/{lease.lease_id} is being reclaimed")
    return lease


def lease_ended(
    state: MarketState, lease: Lease, reason: EndReason, now_us: int, key: Key | None = None
) -> LeaseEnded:
    """The end of a lease now, with what it pays back."""
    return LeaseEnded(
        at_us=now_us,
        key=key,
        lease_id=lease.lease_id,
        reason=reason,
        ended_at_us=now_us,
        refund_micro_usd=refund_at_end(state.inventory, lease, reason, now_us),
    )


def release(state: MarketState, command: ReleaseLease, now_us: int) -> list[AnyEvent]:
    """The end of a lease by its tenant; of one that has ended already, nothing."""
    lease = owned_lease(state, command.tenant_id, command.lease_id)
    if not lease.runs:
        return [KeyUsed(at_us=now_us, key=command.key, subject=lease.lease_id)] if command.key else []
    return [lease_ended(state, lease, EndReason.RELEASED, now_us, command.key)]


def end_due(state: MarketState, now_us: int) -> list[AnyEvent]:
    """The ends of all leases, holds and orders whose end has come, each at its own time."""
    return [_due(state, name, ends_at_us, now_us) for ends_at_us, name in state.due_by(now_us)]


def _due(state: MarketState, name: str, ends_at_us: int, now_us: int) -> AnyEvent:
    if name in state.orders:
        return OrderEnded(at_us=now_us, order_id=name, reason=EXPIRED)
    if name in state.quotes:
        return QuoteEnded(at_us=now_us, quote_id=name, reason=EXPIRED)
    lease = state.leases[name]
    reclaimed = lease.state == RECLAIMING and ends_at_us < lease.ends_at_us
    reason = EndReason(lease.reclaim_reason) if reclaimed else EndReason.COMPLETED
    return LeaseEnded(
        at_us=now_us,
        lease_id=name,
        reason=reason,
        ended_at_us=ends_at_us,
        refund_micro_usd=refund_at_end(state.inventory, lease, reason, ends_at_us),
    )
