"""Applying what changes a lease that goes on: its end, its size, its price, a notice."""

from __future__ import annotations

import heapq
from dataclasses import replace

import msgspec
import numpy as np

from engine.domain.cluster_request import with_gpu_count
from engine.market.events import LeaseExtended, LeaseReclaiming, LeaseRepriced, LeaseShrunk, LeaseSpared
from engine.market.lease_terms import PriceLine
from engine.market.periods import Period, cut
from engine.market.state import ACTIVE, RECLAIMING, Lease, MarketState
from engine.market.use import use_of

REPRICED = "REPRICED"
"""Kind of the line with what higher prices of interruptible work added."""


def extend(state: MarketState, event: LeaseExtended) -> None:
    """A lease runs longer."""
    lease = state.leases[event.lease_id]
    standing, ends_s = lease.standing, lease.duration_s
    added = Period(
        from_s=ends_s,
        to_s=ends_s + event.duration_s,
        nodes=standing.nodes,
        gpus=standing.gpus,
        prices_micro_usd_per_gpu_hour=event.prices_micro_usd_per_gpu_hour,
        profile=event.profile,
        curve_from_s=event.curve_from_s,
        gpu_milli=standing.request.gpu_milli,
    )
    lease.changed_periods = (*lease.periods, added)
    lease.ends_at_us = event.ends_at_us
    lease.paid_micro_usd += event.amount_micro_usd
    lease.earned_micro_usd = max(lease.earned_micro_usd, event.earned_micro_usd)
    lease.network_fee_micro_usd += event.network_fee_micro_usd
    lease.added_lines += event.lines
    lease.locked_s += event.duration_s if event.locked else 0
    lease.fencing_epoch += 1
    heapq.heappush(state.due, (lease.ends_at_us, lease.lease_id))
    state.demand.extend(event.at_us, lease.tenant_id, standing.request, lease.lease_id, event.duration_s)
    state.remember(event.key, lease.lease_id, event.at_us)


def shrink(state: MarketState, event: LeaseShrunk) -> None:
    """A lease keeps some of its GPUs."""
    lease = state.leases[event.lease_id]
    before = lease.standing
    state.inventory.give(use_of(before))
    after = msgspec.structs.replace(
        before,
        request=with_gpu_count(before.request, event.gpu_count),
        nodes=event.nodes,
        gpus=event.gpus,
        prices_micro_usd_per_gpu_hour=event.prices_micro_usd_per_gpu_hour,
    )
    rate = int(np.dot(after.gpus_per_node, after.prices))
    lease.moved = msgspec.structs.replace(after, rate_micro_usd_per_hour=rate)
    state.inventory.take(use_of(after))
    periods = zip(lease.periods, event.kept, strict=True)
    lease.changed_periods = tuple(replace(period, gpus=gpus) for period, gpus in periods)
    lease.refunded_micro_usd += event.refund_micro_usd
    lease.earned_micro_usd = max(lease.earned_micro_usd, event.earned_micro_usd)
    lease.fencing_epoch += 1
    state.demand.shrink(lease.lease_id, event.gpu_count)
    state.remember(event.key, lease.lease_id, event.at_us)


def reprice(state: MarketState, event: LeaseRepriced) -> None:
    """A lease pays other prices for the time left."""
    lease = state.leases[event.lease_id]
    standing, ends_s = lease.standing, lease.duration_s
    prices = event.prices_micro_usd_per_gpu_hour
    if event.from_s < ends_s:
        part = standing.request.gpu_milli
        rest = Period(event.from_s, ends_s, standing.nodes, standing.gpus, prices, gpu_milli=part)
        lease.changed_periods = (*cut(lease.periods, event.from_s), rest)
    after = msgspec.structs.replace(standing, prices_micro_usd_per_gpu_hour=prices)
    rate = int(np.dot(after.gpus_per_node, after.prices))
    lease.moved = msgspec.structs.replace(after, rate_micro_usd_per_hour=rate)
    lease.paid_micro_usd += event.amount_micro_usd
    lease.earned_micro_usd = max(lease.earned_micro_usd, event.earned_micro_usd)
    lease.network_fee_micro_usd += event.network_fee_micro_usd
    lease.refunded_micro_usd += event.refund_micro_usd
    if event.amount_micro_usd:
        _note_repricing(lease, event.amount_micro_usd)


def _note_repricing(lease: Lease, amount: int) -> None:
    """One line for all that higher prices added."""
    added = sum(line.amount_micro_usd for line in lease.added_lines if line.kind == REPRICED)
    others = [line for line in lease.added_lines if line.kind != REPRICED]
    gpus = lease.standing.request.gpu_count
    lease.added_lines = [*others, PriceLine("", "", "", "POSTED", gpus, 0, added + amount, REPRICED)]


def reclaim(state: MarketState, event: LeaseReclaiming) -> None:
    """A lease has notice."""
    lease = state.leases[event.lease_id]
    lease.state, lease.reclaim_reason, lease.reclaim_at_us = RECLAIMING, event.reason, event.reclaim_at_us
    lease.fencing_epoch += 1
    if not lease.must_move:
        heapq.heappush(state.due, (lease.due_at_us, lease.lease_id))


def spare(state: MarketState, event: LeaseSpared) -> None:
    """A lease has no notice any more."""
    lease = state.leases[event.lease_id]
    lease.state, lease.reclaim_reason, lease.reclaim_at_us = ACTIVE, "", 0
    lease.fencing_epoch += 1
