"""What an event does to the books: entries, and the spans of time that they are for. Parts of the journal."""

from __future__ import annotations

import msgspec

DEPOSIT, WITHDRAWAL, DEV_CREDIT = "DEPOSIT", "WITHDRAWAL", "DEV_CREDIT"
ESCROW, SETTLEMENT, REFUND = "ESCROW", "SETTLEMENT", "REFUND"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Amounts put into accounts (negative: taken out), micro-USD, none of them 0; they sum to 0.

    `subject`: the lease, or the id of a deposit or withdrawal.
    """

    kind: str
    subject: str
    legs: list[tuple[str, int]]


class Span(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A time in which what a lease is charged is shared in the same way. It has one; new shares begin the next.

    `closed_micro_usd`: what the spans before it were charged. `weights`: of the suppliers, in their order by name,
    without a common divisor. The parts are of what is charged; suppliers get the rest.
    """

    lease_id: str
    tenant_id: str
    closed_micro_usd: int
    suppliers: list[str]
    weights: list[int]
    network_fee_ppm: int
    burn_ppm: int
    make_whole_ppm: int


class Money(msgspec.Struct, frozen=True, array_like=True):
    """`spans` begin, in place of the lease's one before; the escrows of `closed` leases are empty and gone;
    `settled` leases have been charged up to the event's time."""

    entries: list[Entry]
    spans: list[Span] = []
    closed: list[str] = []
    settled: list[str] = []
