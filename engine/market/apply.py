"""Applying events: the only code that changes the state. No choice, no clock, no solver."""

from __future__ import annotations

import heapq
import io

import msgspec
import numpy as np
import polars as pl

from engine.domain.tiers import NodeState
from engine.market.events import (
    AnyEvent,
    FleetLoaded,
    KeyUsed,
    LeaseEnded,
    LeaseMoved,
    LeaseStarted,
    NodeStateSet,
    PlanApplied,
    PricesPosted,
    QuoteIssued,
)
from engine.market.state import ENDED, Application, Lease, Load, MarketState, Quote


def apply(state: MarketState, event: AnyEvent) -> None:
    """Make the event part of the state, in place."""
    state.version += 1
    match event:
        case LeaseStarted():
            _start(state, event)
        case LeaseMoved():
            _move(state, event)
        case LeaseEnded():
            _end(state, event)
        case PlanApplied():
            state.applied[event.plan_id] = Application(event.tenant_id, event.outcomes)
            state.forgettable.append((event.at_us, event.plan_id))
            state.remember(event.key, event.plan_id, event.at_us)
        case QuoteIssued():
            _quote(state, event)
        case NodeStateSet():
            state.inventory.set_state(event.node, NodeState[event.state])
            state.fleet_version += 1
            state.remember(event.key, str(event.node), event.at_us)
        case FleetLoaded():
            _load(state, event)
        case KeyUsed():
            state.remember(event.key, event.subject, event.at_us)
        case PricesPosted():
            _post(state, event)
    state.forget(event.at_us)


def _start(state: MarketState, event: LeaseStarted) -> None:
    lease = Lease(
        lease_id=event.lease_id,
        tenant_id=event.tenant_id,
        terms=event.terms,
        starts_at_us=event.at_us,
        ends_at_us=event.ends_at_us,
        quote_id=event.quote_id,
    )
    state.inventory.lease(event.terms.node_numbers, event.terms.gpus_per_node)
    state.leases[lease.lease_id] = lease
    state.leases_of.setdefault(lease.tenant_id, {})[lease.lease_id] = None
    state.active += 1
    heapq.heappush(state.due, (lease.ends_at_us, lease.lease_id))
    if event.quote_id:
        state.quotes[event.quote_id].lease_id = lease.lease_id
    state.remember(event.key, lease.lease_id, event.at_us)


def _move(state: MarketState, event: LeaseMoved) -> None:
    lease = state.leases[event.lease_id]
    state.inventory.lease(lease.standing.node_numbers, -lease.standing.gpus_per_node)
    lease.moved = msgspec.structs.replace(
        lease.terms,
        nodes=event.nodes,
        gpus=event.gpus,
        prices_micro_usd_per_gpu_hour=event.prices_micro_usd_per_gpu_hour,
    )
    state.inventory.lease(lease.moved.node_numbers, lease.moved.gpus_per_node)


def _end(state: MarketState, event: LeaseEnded) -> None:
    lease = state.leases[event.lease_id]
    state.inventory.lease(lease.standing.node_numbers, -lease.standing.gpus_per_node)
    lease.state, lease.end_reason, lease.ends_at_us = ENDED, event.reason, event.ended_at_us
    state.active -= 1
    state.forgettable.append((event.at_us, event.lease_id))
    state.remember(event.key, event.lease_id, event.at_us)


def _quote(state: MarketState, event: QuoteIssued) -> None:
    state.quotes[event.quote_id] = Quote(
        event.quote_id, event.tenant_id, event.terms, event.at_us, event.expires_at_us
    )
    state.forgettable.append((event.at_us, event.quote_id))
    state.remember(event.key, event.quote_id, event.at_us)


def _load(state: MarketState, event: FleetLoaded) -> None:
    nodes, rtt = read_frame(event.nodes), read_frame(event.rtt)
    state.inventory = state.inventory.merged(nodes, rtt)
    state.fleet_version += 1
    state.loads[event.load_id] = Load(event.nodes_added, event.nodes_updated, rtt.height)
    state.remember(event.key, event.load_id, event.at_us)


def _post(state: MarketState, event: PricesPosted) -> None:
    inventory = state.inventory
    posted = np.frombuffer(event.posted_micro_usd_per_gpu_hour, dtype="<i8").astype(np.int64)
    inventory.post(posted, event.price_snapshot_id)
    state.price_sources = event.sources
    state.fleet_version += 1
    load = state.loads.get(event.load_id)
    if load is not None:
        load.gpus_registered = int(inventory.nodes.gpu_count.sum())
        load.pools = inventory.pools.table.shape[0]
        load.fleet_version = state.fleet_version


def read_frame(payload: bytes) -> pl.DataFrame:
    """The frame of an event."""
    return pl.read_ipc(io.BytesIO(payload))


def write_frame(frame: pl.DataFrame) -> bytes:
    """The bytes of a frame inside an event."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()
