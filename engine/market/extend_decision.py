"""Deciding ExtendLease: more hours on the same nodes, at the forward curve of now or at the locked price.

Added seconds [a, b) of a lease cost A(b) - A(a), A being the rounded cost from now to a second at the prices of
now. So extending by h1 and then by h2 costs what h1 + h2 cost. A locked price holds for as long again as the lease
was sold for; what goes beyond is priced at the curve.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import InvalidInput, Refused, Violation
from engine.domain.limits import MAX_DURATION_S, MAX_TOTAL_MICRO_USD, MILLI_OF_GPU
from engine.domain.money import rounded_micro_usd, share_of_gpu
from engine.domain.tiers import NodeState
from engine.market.audit import placement_faults
from engine.market.commands import ExtendLease
from engine.market.events import AnyEvent, LeaseExtended
from engine.market.extension_lines import current_parts, itemised, locked_parts
from engine.market.lease_decision import owned_lease, still_active
from engine.market.lease_terms import PriceLine, Profile
from engine.market.periods import band_edges, curve_costs
from engine.market.refunds import due_micro_usd
from engine.market.state import Lease, MarketState
from engine.market.terms import network_fee_of, profile_of
from engine.market.use import use_of

Int = NDArray[np.int64]
SECOND_US = 1_000_000


class _Added(NamedTuple):
    """Seconds added at one kind of price."""

    duration_s: int
    lines: list[PriceLine]
    prices: Int
    profile: Profile | None
    curve_from_s: int
    locked: bool

    @property
    def amount_micro_usd(self) -> int:
        return sum(line.amount_micro_usd for line in self.lines)


def extend(state: MarketState, command: ExtendLease, now_us: int) -> list[AnyEvent]:
    """The extension, in two parts if only a part of it has a locked price. Refused if it cannot be."""
    lease = still_active(owned_lease(state, command.tenant_id, command.lease_id))
    if lease.duration_s + command.duration_s > MAX_DURATION_S:
        most = f"the lease would be longer than {MAX_DURATION_S:,} seconds"
        raise InvalidInput([Violation("duration_s", most)])
    _check_place(state, lease)
    left_s = (lease.ends_at_us - now_us) // SECOND_US
    lockable_s = lease.terms.duration_s - lease.locked_s if lease.terms.extension_locked else 0
    locked_s = min(lockable_s, command.duration_s)
    added = []
    if locked_s:
        added.append(_at_locked_price(state, lease, locked_s))
    if rest_s := command.duration_s - locked_s:
        added.append(_at_curve(state, lease, lease.duration_s + locked_s, left_s + locked_s, rest_s))
    _check_amount(lease, command, sum(each.amount_micro_usd for each in added))
    return _events(state, lease, command, added, now_us)


def _events(
    state: MarketState, lease: Lease, command: ExtendLease, added: list[_Added], now_us: int
) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    ends_at_us, earned = lease.ends_at_us, due_micro_usd(state.inventory, lease, now_us)
    for each in added:
        ends_at_us += each.duration_s * SECOND_US
        events.append(
            LeaseExtended(
                at_us=now_us,
                key=None if events else command.key,
                lease_id=lease.lease_id,
                ends_at_us=ends_at_us,
                duration_s=each.duration_s,
                lines=each.lines,
                amount_micro_usd=each.amount_micro_usd,
                prices_micro_usd_per_gpu_hour=each.prices.astype("<i8").tobytes(),
                profile=each.profile,
                curve_from_s=each.curve_from_s,
                locked=each.locked,
                network_fee_micro_usd=network_fee_of(lease.terms, each.amount_micro_usd),
                earned_micro_usd=earned,
            )
        )
    return events


def _check_place(state: MarketState, lease: Lease) -> None:
    """Where it runs must be able to go on, and still keep its constraints."""
    inventory, standing = state.inventory, lease.standing
    nodes = standing.node_numbers
    seen = inventory.glance(nodes)
    away = seen.state != int(NodeState.READY)
    if away.any():
        first = inventory.node_ids[nodes[int(np.argmax(away))]]
        raise Refused("NODE_NOT_READY", f"nodes/{first} takes no work beyond what it has: it is not READY")
    own = seen.with_own(use_of(standing))
    if faults := placement_faults(inventory, standing, own):
        told = f"the fleet has changed since leases/{lease.lease_id} began: it {'; '.join(faults)}"
        raise Refused("LEASE_TERMS_GONE", told)


def _check_amount(lease: Lease, command: ExtendLease, amount: int) -> None:
    """The price limit of the request holds for the added time by itself."""
    told = f"{command.duration_s:,} s more cost {amount:,} micro-USD"
    if lease.paid_micro_usd + amount > MAX_TOTAL_MICRO_USD:
        raise InvalidInput([Violation("duration_s", "makes the total larger than can be charged")])
    most = command.max_amount_micro_usd
    if most is not None and amount > most:
        raise Refused("MAX_AMOUNT_MICRO_USD", f"{told}, above {most:,}", amount_micro_usd=str(amount))
    request = lease.standing.request
    cap = request.max_price_micro_usd_per_gpu_hour
    if cap is not None and amount > rounded_micro_usd(share_of_gpu(cap, request.gpu_share) * command.duration_s):
        told = f"{told}, above the cap of {cap:,} per GPU-hour"
        raise Refused("PRICE_CAP", told, amount_micro_usd=str(amount))


def _at_locked_price(state: MarketState, lease: Lease, duration_s: int) -> _Added:
    standing, before = lease.standing, lease.duration_s
    parts = locked_parts(state.inventory, standing, (before, before + duration_s))
    paid = int(np.dot(standing.gpus_per_node, standing.prices)) * lease.locked_s
    return _Added(duration_s, itemised(state.inventory, parts, paid), standing.prices, None, 0, locked=True)


def _at_curve(state: MarketState, lease: Lease, from_s: int, left_s: int, duration_s: int) -> _Added:
    """`left_s`: seconds from now until the first added one, which is second `from_s` of the lease."""
    standing = lease.standing
    inventory = state.inventory.sold_as(interruptible=standing.request.interruptible)
    parts = current_parts(inventory, standing, band_edges(from_s, from_s + duration_s), left_s)
    nodes, gpus = standing.node_numbers, standing.gpus_per_node
    seen = inventory.glance(nodes)
    curves, row = inventory.rows_of(np.ascontiguousarray(seen.market), left_s + duration_s)
    asks = np.ascontiguousarray(seen.ask_micro_usd)
    costs = curve_costs(curves, row, asks, [0, left_s, left_s + duration_s]).exact
    part = standing.request.gpu_milli or MILLI_OF_GPU
    lines = itemised(inventory, parts, int(costs[:, 0] @ gpus.astype(object)), part)
    added = [share_of_gpu(sum(cost), part) - share_of_gpu(cost[0], part) for cost in costs.tolist()]
    averages = [(2 * cost + duration_s) // (2 * duration_s) for cost in added]
    profile = profile_of(inventory, seen, left_s + duration_s)
    return _Added(duration_s, lines, np.array(averages, dtype=np.int64), profile, left_s, locked=False)
