"""What ending or shrinking a lease pays back (DESIGN, section 3.7).

Time counts from the lease's start, and a second that has begun is used. Unused time is paid back in full, or, if
the tenant chose to leave, at the lower of the price paid and the current forward price, for every node and hour
band. What holding a quote or locking a price cost is not paid back. Each period is rounded by itself, so that an
extension never pays back more than it cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.domain.money import rounded_down_micro_usd, rounded_micro_usd
from engine.market.end_reasons import REFUND_OF, EndReason, Refund
from engine.market.inventory import Inventory
from engine.market.periods import current_costs, edges_of, least_cost, paid_costs
from engine.market.state import RECLAIMING, Lease

Int = NDArray[np.int64]
SECOND_US = 1_000_000


def used_s(lease: Lease, now_us: int) -> int:
    """Seconds of a lease that have begun."""
    return -(-(now_us - lease.starts_at_us) // SECOND_US)


def refund_at_end(inventory: Inventory, lease: Lease, reason: EndReason, now_us: int) -> int:
    """What a lease that ends now pays back; a tenant that leaves after a notice gets everything."""
    how = REFUND_OF[reason]
    if how is Refund.AT_MARKET and lease.state == RECLAIMING:
        how = Refund.IN_FULL
    whole = [period.row_gpus for period in lease.periods]
    return refund_of(inventory, lease, whole, how, now_us)


def refund_of(inventory: Inventory, lease: Lease, gpus: Sequence[Int], how: Refund, now_us: int) -> int:
    """What giving back some GPUs of the rows of each period pays back, at most what is left of what was paid."""
    if how is Refund.NOTHING:
        return 0
    now_s, amount = used_s(lease, now_us), 0
    inventory = inventory.sold_as(interruptible=lease.terms.request.interruptible)
    for period, given in zip(lease.periods, gpus, strict=True):
        edges = edges_of(period, now_s, period.to_s)
        if not edges:
            continue
        paid = paid_costs(period, edges)
        now = current_costs(inventory, period, edges, now_s) if how is Refund.AT_MARKET else paid
        cost = least_cost(paid, now, given)
        amount += rounded_micro_usd(cost) if how is Refund.IN_FULL else rounded_down_micro_usd(cost)
    return min(amount, lease.refundable_micro_usd)


def due_micro_usd(inventory: Inventory, lease: Lease, now_us: int) -> int:
    """What of all that was charged is due by now: what is not paid back even if it is not the tenant who ends it.

    It never falls, and whatever ends or changes the lease later leaves at least as much charged.
    """
    whole = [period.row_gpus for period in lease.periods]
    return lease.charged_micro_usd - refund_of(inventory, lease, whole, Refund.IN_FULL, now_us)
