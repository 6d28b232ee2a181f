"""Applying events: the only code that changes the state. No choice, no clock, no solver."""

from __future__ import annotations

import heapq
import io

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.tables import FLEET_SCHEMA, OPTIONAL_FLEET_COLUMNS, shape
from engine.domain.tiers import NodeState
from engine.market import failure, orders
from engine.market.changes import LEASE, ORDER
from engine.market.events import (
    AnyEvent,
    DemandNoted,
    FleetLoaded,
    FundsDeposited,
    FundsWithdrawn,
    KeyUsed,
    LeaseEnded,
    LeaseExtended,
    LeaseMoved,
    LeaseReclaiming,
    LeaseRepriced,
    LeaseShrunk,
    LeaseSpared,
    LeasesSettled,
    LeasesStarted,
    LeaseStarted,
    LedgerRulesSet,
    NodesHeard,
    NodesStateSet,
    NodeStateSet,
    OrderEnded,
    OrderFilled,
    OrderPlaced,
    PlanApplied,
    PricesPosted,
    PricesPublished,
    QuoteEnded,
    QuoteIssued,
)
from engine.market.inventory import Inventory
from engine.market.lease_changes import extend, reclaim, reprice, shrink, spare
from engine.market.many_start import start_many
from engine.market.published import LONG_RUN, POSTED, columns_of
from engine.market.state import ENDED, Application, Load, MarketState, Quote, started
from engine.market.use import use_of

Int = NDArray[np.int64]
ORACLE = "ORACLE"
"""Source of a price that the oracle published."""


def apply(state: MarketState, event: AnyEvent) -> None:
    """Make the event part of the state, in place."""
    state.sequence += 1
    state.version += event.count if isinstance(event, LeasesStarted) else 1
    match event:
        case LeaseStarted():
            _start(state, event)
        case LeasesStarted():
            start_many(state, event)
        case LeaseMoved():
            _move(state, event)
        case LeaseExtended():
            extend(state, event)
        case LeaseShrunk():
            shrink(state, event)
        case LeaseRepriced():
            reprice(state, event)
        case LeaseReclaiming():
            reclaim(state, event)
        case LeaseSpared():
            spare(state, event)
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
            state.liveness.set_state(event.node, NodeState[event.state])
            state.fleet_version += 1
            state.remember(event.key, str(event.node), event.at_us)
        case NodesStateSet():
            failure.set_states(state, event)
        case NodesHeard():
            failure.hear(state, event)
        case OrderPlaced():
            orders.place(state, event)
        case OrderFilled():
            orders.fill(state, event)
        case OrderEnded():
            orders.end(state, event)
        case FleetLoaded():
            _load(state, event)
        case KeyUsed():
            state.remember(event.key, event.subject, event.at_us)
        case PricesPosted():
            _post(state, event)
        case PricesPublished():
            _publish(state, event)
        case DemandNoted():
            for wanted in event.refused:
                state.demand.wish(event.at_us, wanted.tenant_id, wanted.request)
        case QuoteEnded():
            _end_quote(state, event)
        case LedgerRulesSet():
            state.books.set_rules(event.rules)
        case FundsDeposited() | FundsWithdrawn():
            state.remember(event.key, event.transfer_id, event.at_us)
        case LeasesSettled():
            pass  # all that it does is in its money
    if event.money is not None:
        state.books.take(event.at_us, event.money)
    _note_change(state, event)
    state.forget(event.at_us)


def _note_change(state: MarketState, event: AnyEvent) -> None:
    match event:
        case (
            LeaseStarted()
            | LeaseMoved()
            | LeaseEnded()
            | LeaseExtended()
            | LeaseShrunk()
            | LeaseRepriced()
            | LeaseReclaiming()
            | LeaseSpared()
        ):
            tenant_id = state.leases[event.lease_id].tenant_id
            state.changes.note(state.version, LEASE, tenant_id, event.lease_id)
        case OrderPlaced() | OrderFilled() | OrderEnded():
            tenant_id = state.orders[event.order_id].tenant_id
            state.changes.note(state.version, ORDER, tenant_id, event.order_id)


def _start(state: MarketState, event: LeaseStarted) -> None:
    lease = started(event.lease_id, event.tenant_id, event.terms, event.at_us, event.quote_id)
    lease.ends_at_us = event.ends_at_us
    lease.order_id, lease.retry_on_loss_s = event.order_id, event.retry_on_loss_s
    if event.quote_id:
        quote = state.quotes[event.quote_id]
        _give_back(state, quote, event.at_us)
        quote.lease_id = lease.lease_id
    state.inventory.take(use_of(event.terms))
    state.demand.lease(event.at_us, event.tenant_id, event.terms.request, event.lease_id)
    state.leases[lease.lease_id] = lease
    state.leases_of.setdefault(lease.tenant_id, {})[lease.lease_id] = None
    if event.terms.request.interruptible:
        state.interruptible[lease.lease_id] = None
    state.active += 1
    heapq.heappush(state.due, (lease.ends_at_us, lease.lease_id))
    state.remember(event.key, lease.lease_id, event.at_us)


def _move(state: MarketState, event: LeaseMoved) -> None:
    lease = state.leases[event.lease_id]
    state.inventory.give(use_of(lease.standing))
    lease.fencing_epoch += 1
    lease.moved = msgspec.structs.replace(
        lease.standing,
        nodes=event.nodes,
        gpus=event.gpus,
        prices_micro_usd_per_gpu_hour=event.prices_micro_usd_per_gpu_hour,
        card=event.card,
    )
    state.inventory.take(use_of(lease.moved))


def _end(state: MarketState, event: LeaseEnded) -> None:
    lease = state.leases[event.lease_id]
    state.inventory.give(use_of(lease.standing))
    lease.state, lease.end_reason, lease.ends_at_us = ENDED, event.reason, event.ended_at_us
    lease.refunded_micro_usd += event.refund_micro_usd
    state.active -= 1
    state.interruptible.pop(event.lease_id, None)
    state.demand.end(event.lease_id, event.ended_at_us)
    state.forgettable.append((event.at_us, event.lease_id))
    state.remember(event.key, event.lease_id, event.at_us)


def _quote(state: MarketState, event: QuoteIssued) -> None:
    quote = Quote(event.quote_id, event.tenant_id, event.terms, event.at_us, event.expires_at_us, hold=event.hold)
    state.quotes[event.quote_id] = quote
    if event.hold:
        state.inventory.take(use_of(event.terms), held=True)
        gpus = event.terms.request.gpu_count
        state.held_by.setdefault(event.tenant_id, {})[event.quote_id] = gpus
        heapq.heappush(state.due, (event.expires_at_us, event.quote_id))
    else:
        state.forgettable.append((event.at_us, event.quote_id))
    state.demand.wish(event.at_us, event.tenant_id, event.terms.request)
    state.remember(event.key, event.quote_id, event.at_us)


def _end_quote(state: MarketState, event: QuoteEnded) -> None:
    quote = state.quotes[event.quote_id]
    _give_back(state, quote, event.at_us)
    quote.end_reason = event.reason
    state.remember(event.key, event.quote_id, event.at_us)


def _give_back(state: MarketState, quote: Quote, now_us: int) -> None:
    """End the hold of a quote, if it holds; like a lease it is not forgotten before."""
    if not quote.holds:
        return
    state.forgettable.append((now_us, quote.quote_id))
    state.inventory.give(use_of(quote.terms), held=True)
    own = state.held_by[quote.tenant_id]
    del own[quote.quote_id]
    if not own:
        del state.held_by[quote.tenant_id]


def _load(state: MarketState, event: FleetLoaded) -> None:
    nodes, rtt = read_frame(event.nodes), read_frame(event.rtt)
    state.inventory = state.inventory.merged(nodes, rtt)
    state.liveness.keep_to(state.inventory.state)
    state.fleet_version += 1
    state.loads[event.load_id] = Load(event.nodes_added, event.nodes_updated, rtt.height)
    state.remember(event.key, event.load_id, event.at_us)


def _post(state: MarketState, event: PricesPosted) -> None:
    inventory = state.inventory
    posted = np.frombuffer(event.posted_micro_usd_per_gpu_hour, dtype="<i8").astype(np.int64)
    long_run = np.frombuffer(event.long_run_micro_usd_per_gpu_hour, dtype="<i8").astype(np.int64)
    take_curves(
        inventory, posted, long_run if long_run.size else posted, event.half_life_h, event.price_snapshot_id
    )
    state.price_sources = event.sources
    offer_interruptible(state)
    state.fleet_version += 1
    load = state.loads.get(event.load_id)
    if load is not None:
        load.gpus_registered = int(inventory.nodes.gpu_count.sum())
        load.pools = inventory.pools.table.shape[0]
        load.fleet_version = state.fleet_version


def _publish(state: MarketState, event: PricesPublished) -> None:
    inventory, columns = state.inventory, columns_of(event.columns, len(event.markets))
    state.oracle.publish(event, columns)
    state.demand.kept_us = event.demand_kept_us
    posted, long_run = inventory.posted_of_market.copy(), inventory.long_run.copy()
    sources, places = list(state.price_sources), inventory.places_of(state.oracle.history[-1].markets)
    priced = places >= 0
    own = places[priced]
    posted[own], long_run[own] = columns[POSTED, priced], columns[LONG_RUN, priced]
    for index in own.tolist():
        sources[index] = ORACLE
    take_curves(inventory, posted, long_run, event.half_life_h, event.price_snapshot_id)
    state.price_sources = sources
    offer_interruptible(state)
    state.fleet_version += 1


def offer_interruptible(state: MarketState) -> None:
    """Interruptible GPUs cost what the oracle published, elsewhere what others cost."""
    inventory, known = state.inventory, state.oracle.interruptible
    if known:
        names = inventory.market_index
        posted = inventory.posted_of_market.tolist()
        prices = [known.get(name, price) for name, price in zip(names, posted, strict=True)]
        inventory.offer_interruptible(np.array(prices, dtype=np.int64))


def take_curves(
    inventory: Inventory, posted: Int, long_run: Int, half_life_h: float, price_snapshot_id: str
) -> None:
    """Flat curves are told apart, as they need no sums over hours."""
    if (posted == long_run).all():
        inventory.post(posted, price_snapshot_id)
    else:
        inventory.publish(posted, long_run, half_life_h, price_snapshot_id)


def read_frame(payload: bytes) -> pl.DataFrame:
    """The frame of an event; one of nodes, written before nodes had all their columns, gets the others as null."""
    frame = pl.read_ipc(io.BytesIO(payload))
    if "node_id" not in frame.columns:
        return frame
    return shape(frame, FLEET_SCHEMA, "nodes", OPTIONAL_FLEET_COLUMNS)


def write_frame(frame: pl.DataFrame) -> bytes:
    """The bytes of a frame inside an event."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()
