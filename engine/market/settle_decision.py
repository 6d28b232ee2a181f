"""Deciding SettleInterruptible: after an epoch interruptible leases pay its prices, or get notice.

A node costs max(its market's interruptible price, its ask) until the next epoch. A lease whose average then
exceeds its price limit has lost: it gets notice, goes on at the price it has, and ends with everything unused paid
back. So does one whose tenant cannot pay what a higher price adds; all others are settled all the same.
What waits on demand is let in by `room_decision`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.domain.money import rounded_micro_usd, share_of_gpu
from engine.market.commands import SettleInterruptible
from engine.market.end_reasons import EndReason
from engine.market.events import AnyEvent, LeaseReclaiming, LeaseRepriced
from engine.market.ledger.purse import Purse
from engine.market.periods import edges_of, least_cost, paid_costs
from engine.market.refunds import due_micro_usd, used_s
from engine.market.state import ACTIVE, Lease, MarketState
from engine.market.terms import network_fee_of

Int = NDArray[np.int64]


def settle(state: MarketState, command: SettleInterruptible, now_us: int) -> list[AnyEvent]:
    """What becomes of each lease that runs and is interruptible."""
    return list(_settled(state, command, now_us))


def interruptible_leases(state: MarketState) -> list[str]:
    """Ids of those that run without a notice, oldest first."""
    return [lease_id for lease_id in state.interruptible if state.leases[lease_id].state == ACTIVE]


def _settled(state: MarketState, command: SettleInterruptible, now_us: int) -> Iterator[AnyEvent]:
    purses: dict[str, Purse] = {}
    for lease_id in command.lease_ids:
        lease = state.leases.get(lease_id)
        if lease is None or lease.state != ACTIVE or not lease.terms.request.interruptible:
            continue
        prices = _prices_now(state, lease)
        if _is_outbid(lease, prices):
            yield from _notice(lease, EndReason.OUTBID, command, now_us)
        elif (prices != lease.standing.prices).any():
            repriced = _repriced(state, lease, prices, now_us)
            purse = purses.setdefault(lease.tenant_id, Purse(state, lease.tenant_id))
            if purse.pay(repriced.amount_micro_usd):
                yield repriced
            else:
                yield from _notice(lease, EndReason.ESCROW_EXHAUSTED, command, now_us)


def _notice(
    lease: Lease, reason: EndReason, command: SettleInterruptible, now_us: int
) -> Iterator[LeaseReclaiming]:
    """Notice to a lease, unless it ends before."""
    reclaim_at_us = now_us + command.notice_us
    if reclaim_at_us < lease.ends_at_us:
        yield LeaseReclaiming(at_us=now_us, lease_id=lease.lease_id, reason=reason, reclaim_at_us=reclaim_at_us)


def _prices_now(state: MarketState, lease: Lease) -> Int:
    seen = state.inventory.sold_as(interruptible=True).glance(lease.standing.node_numbers)
    prices = np.maximum(seen.ask_micro_usd, seen.posted_micro_usd)
    part = lease.standing.request.gpu_milli
    return prices if part is None else np.array([share_of_gpu(price, part) for price in prices.tolist()])


def _is_outbid(lease: Lease, prices: Int) -> bool:
    standing = lease.standing
    bid = standing.request.max_price_micro_usd_per_gpu_hour
    rate = int(np.dot(standing.gpus_per_node, prices))
    return bid is not None and rate > share_of_gpu(bid, standing.request.gpu_share)


def _repriced(state: MarketState, lease: Lease, prices: Int, now_us: int) -> LeaseRepriced:
    now_s, before = used_s(lease, now_us), 0
    for period in lease.periods:
        if edges := edges_of(period, now_s, period.to_s):
            paid = paid_costs(period, edges)
            before += least_cost(paid, paid, period.row_gpus)
    after = int(np.dot(lease.standing.gpus_per_node, prices)) * (lease.duration_s - now_s)
    more = rounded_micro_usd(after) - rounded_micro_usd(before)
    earned = due_micro_usd(state.inventory, lease, now_us)
    return LeaseRepriced(
        at_us=now_us,
        lease_id=lease.lease_id,
        from_s=now_s,
        prices_micro_usd_per_gpu_hour=prices.astype("<i8").tobytes(),
        amount_micro_usd=max(more, 0),
        refund_micro_usd=min(max(-more, 0), lease.charged_micro_usd - earned),
        network_fee_micro_usd=network_fee_of(lease.terms, max(more, 0)),
        earned_micro_usd=earned,
    )
