"""Why leases end, and what each reason pays back of the time that was not used (DESIGN, section 3.7)."""

from __future__ import annotations

from enum import StrEnum


class EndReason(StrEnum):
    """Why a lease is over."""

    COMPLETED = "COMPLETED"
    """Its agreed end came."""
    RELEASED = "RELEASED"
    """Its tenant gave it back."""
    NODE_LOST = "NODE_LOST"
    """A node failed and its work found no other place."""
    SUPPLIER_DRAINED = "SUPPLIER_DRAINED"
    """A node was taken out and its work found no other place."""
    OUTBID = "OUTBID"
    """Interruptible: the price rose above its bid."""
    ESCROW_EXHAUSTED = "ESCROW_EXHAUSTED"
    """Its tenant could not pay on."""
    PREEMPTED = "PREEMPTED"
    """Interruptible: a plan of its tenant put other work in its place."""
    DISPLACED = "DISPLACED"
    """A plan found no place for what ran on nodes that were not READY."""


class Refund(StrEnum):
    """How unused time is paid back."""

    NOTHING = "NOTHING"
    AT_MARKET = "AT_MARKET"
    """At the lower of the price paid and the price of now: else paying for long would be a free option."""
    IN_FULL = "IN_FULL"
    """At the price paid: it was not the tenant who ended it."""


REFUND_OF = {
    EndReason.COMPLETED: Refund.NOTHING,
    EndReason.RELEASED: Refund.AT_MARKET,
    EndReason.NODE_LOST: Refund.IN_FULL,
    EndReason.SUPPLIER_DRAINED: Refund.IN_FULL,
    EndReason.OUTBID: Refund.IN_FULL,
    EndReason.ESCROW_EXHAUSTED: Refund.AT_MARKET,
    EndReason.PREEMPTED: Refund.AT_MARKET,
    EndReason.DISPLACED: Refund.IN_FULL,
}
