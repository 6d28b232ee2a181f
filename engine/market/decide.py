"""Deciding commands: state and time in, events out. Changes nothing and touches nothing outside.

A refusal is an exception of `engine.domain.errors`. A command whose idempotency key was used before decides
nothing (no events); the caller answers from the object that the first call made (`subject_of`).
"""

from __future__ import annotations

import msgspec
import numpy as np

from engine.domain.errors import IdempotencyConflict, InvalidInput, NotFound, Violation
from engine.domain.tables import MAX_LISTED, check_fleet
from engine.market.apply import write_frame
from engine.market.commands import (
    ApplyPlan,
    CancelOrder,
    Command,
    DeployCluster,
    DeployQuote,
    DrainNode,
    EndDueLeases,
    IssueQuote,
    Keyless,
    LoadFleet,
    NoteDemand,
    NoteHeartbeats,
    PlaceOrder,
    PublishPrices,
    ReleaseLease,
    ReleaseQuote,
    RepairLease,
    ServeOrder,
    SetNodeState,
)
from engine.market.events import (
    AnyEvent,
    DemandNoted,
    FleetLoaded,
    Key,
    KeyUsed,
    LeaseEnded,
    LeaseStarted,
    NodeStateSet,
    OrderEnded,
    OrderPlaced,
    PlanApplied,
    PricesPosted,
    QuoteEnded,
    QuoteIssued,
    Terms,
)
from engine.market.failure_decision import drain_node, note_heartbeats, numbered, repair_lease
from engine.market.inventory import Inventory
from engine.market.order_decision import cancel_order, place_order, serve_order
from engine.market.plan_decision import decide_plan
from engine.market.prices import PriceBook, posted_prices
from engine.market.quote_decision import EXPIRED, issue_quote, named, quoted_terms, release_quote
from engine.market.state import ACTIVE, Lease, MarketState
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
from engine.market.terms import terms_of


def decide(
    state: MarketState,
    command: Command,
    now_us: int,
    book: PriceBook,
    stopwatch: Stopwatch = NO_STOPWATCH,
) -> list[AnyEvent]:
    """The events that the command causes at `now_us`."""
    if not isinstance(command, Keyless) and subject_of(state, command.key) is not None:
        return []
    match command:
        case DeployCluster():
            return [_deploy(state, command, now_us, book, stopwatch)]
        case DeployQuote():
            terms = quoted_terms(state, command, now_us, stopwatch)
            return [_lease_started(state, command.tenant_id, terms, now_us, command.key, command.quote_id)]
        case IssueQuote():
            return [issue_quote(state, command, now_us, book, stopwatch)]
        case ReleaseQuote():
            return release_quote(state, command, now_us)
        case ReleaseLease():
            return _release(state, command, now_us)
        case EndDueLeases():
            return _end_due(state, now_us)
        case PublishPrices():
            newer = command.event.epoch > state.oracle.epoch
            return [msgspec.structs.replace(command.event, at_us=now_us)] if newer else []
        case NoteDemand():
            return [DemandNoted(at_us=now_us, refused=list(command.refused))]
        case PlaceOrder():
            return [place_order(state, command, now_us, book)]
        case CancelOrder():
            return cancel_order(state, command, now_us)
        case ServeOrder():
            return serve_order(state, command, now_us, book)
        case DrainNode():
            return [drain_node(state, command, now_us)]
        case NoteHeartbeats():
            return note_heartbeats(state, command, now_us)
        case RepairLease():
            return repair_lease(state, command, now_us)
        case SetNodeState():
            return [_set_node_state(state, command, now_us)]
        case LoadFleet():
            return _load_fleet(state, command, now_us, book)
        case ApplyPlan():
            return decide_plan(state, command, now_us)


def subject_of(state: MarketState, key: Key | None) -> str | None:
    """Id of the object that an earlier call with this key made; IdempotencyConflict if its body differed."""
    used = None if key is None else state.subjects.get((key.tenant_id, key.method, key.key))
    if key is None or used is None:
        return None
    if used[0] != key.body_hash:
        raise IdempotencyConflict("this idempotency key was used before with a different request")
    return used[1]


def made_by(state: MarketState, events: list[AnyEvent], key: Key | None) -> str:
    """Id of the lease, quote, order, load or applied plan of the events; without events, of an earlier call."""
    for event in reversed(events):
        if isinstance(event, LeaseStarted):
            return event.lease_id
        if isinstance(event, QuoteIssued | QuoteEnded):
            return event.quote_id
        if isinstance(event, OrderPlaced | OrderEnded):
            return event.order_id
        if isinstance(event, FleetLoaded):
            return event.load_id
        if isinstance(event, PlanApplied):
            return event.plan_id
    subject = subject_of(state, key)
    assert subject is not None
    return subject


def owned_lease(state: MarketState, tenant_id: str, lease_id: str) -> Lease:
    """The tenant's lease; another tenant's answers exactly like a missing one."""
    lease = state.leases.get(lease_id)
    if lease is None or lease.tenant_id != tenant_id:
        raise NotFound(f"there is no lease leases/{lease_id}")
    return lease


def _deploy(
    state: MarketState, command: DeployCluster, now_us: int, book: PriceBook, stopwatch: Stopwatch
) -> LeaseStarted:
    terms = terms_of(state, named(command.request, state), book, stopwatch)
    started = _lease_started(state, command.tenant_id, terms, now_us, command.key)
    return msgspec.structs.replace(started, retry_on_loss_s=command.retry_on_loss_s)


def _lease_started(
    state: MarketState, tenant_id: str, terms: Terms, now_us: int, key: Key | None, quote_id: str = ""
) -> LeaseStarted:
    return LeaseStarted(
        at_us=now_us,
        key=key,
        lease_id=f"l-{state.version + 1:010d}",
        tenant_id=tenant_id,
        terms=terms,
        ends_at_us=now_us + terms.duration_s * 1_000_000,
        quote_id=quote_id,
    )


def _release(state: MarketState, command: ReleaseLease, now_us: int) -> list[AnyEvent]:
    lease = owned_lease(state, command.tenant_id, command.lease_id)
    if lease.state != ACTIVE:
        return [KeyUsed(at_us=now_us, key=command.key, subject=lease.lease_id)] if command.key else []
    return [
        LeaseEnded(at_us=now_us, key=command.key, lease_id=lease.lease_id, reason="RELEASED", ended_at_us=now_us)
    ]


def _end_due(state: MarketState, now_us: int) -> list[AnyEvent]:
    return [_due_end(state, name, ends_at_us, now_us) for ends_at_us, name in state.due_by(now_us)]


def _due_end(state: MarketState, name: str, ends_at_us: int, now_us: int) -> AnyEvent:
    if name in state.orders:
        return OrderEnded(at_us=now_us, order_id=name, reason=EXPIRED)
    if name in state.quotes:
        return QuoteEnded(at_us=now_us, quote_id=name, reason=EXPIRED)
    return LeaseEnded(at_us=now_us, lease_id=name, reason="COMPLETED", ended_at_us=ends_at_us)


def _set_node_state(state: MarketState, command: SetNodeState, now_us: int) -> NodeStateSet:
    node = numbered(state, command.node_id)
    return NodeStateSet(at_us=now_us, key=command.key, node=node, state=command.state.name)


def _load_fleet(state: MarketState, command: LoadFleet, now_us: int, book: PriceBook) -> list[AnyEvent]:
    inventory = state.inventory
    updated = sum(node_id in inventory.number for node_id in command.nodes["node_id"].to_list())
    check_fleet(inventory.merged_frame(command.nodes), "fleet after the load")
    merged = inventory.merged(command.nodes, command.rtt)
    _check_merge(merged)
    prices = posted_prices(merged, book, state)
    loaded = FleetLoaded(
        at_us=now_us,
        key=command.key,
        load_id=f"load-{state.version + 1:010d}",
        nodes=write_frame(command.nodes),
        rtt=write_frame(command.rtt),
        nodes_added=command.nodes.height - updated,
        nodes_updated=updated,
    )
    posted = PricesPosted(
        at_us=now_us,
        load_id=loaded.load_id,
        price_snapshot_id=prices.snapshot_id,
        posted_micro_usd_per_gpu_hour=prices.posted.astype("<i8").tobytes(),
        sources=prices.sources,
        long_run_micro_usd_per_gpu_hour=prices.long_run.astype("<i8").tobytes(),
        half_life_h=state.inventory.half_life_h,
    )
    return [loaded, posted]


def _check_merge(merged: Inventory) -> None:
    """What a load must not break in the fleet that is already there."""
    taken = merged.leased + merged.held
    violations = [
        Violation(
            f"nodes/{merged.node_ids[node]}", f"gpu_free must be at least {taken[node]}, leased or held here"
        )
        for node in np.flatnonzero(merged.unused < 0)[:MAX_LISTED]
    ]
    if violations:
        raise InvalidInput(violations)
