"""Deciding commands: state and time in, events out. Changes nothing and touches nothing outside.

A refusal is an exception of `engine.domain.errors`. A command whose idempotency key was used before decides
nothing (no events); the caller answers from the object that the first call made (`subject_of`).
"""

from __future__ import annotations

import msgspec

from engine.domain.errors import IdempotencyConflict
from engine.market.apply import write_frame
from engine.market.commands import (
    ApplyPlan,
    CancelOrder,
    Command,
    DeployCluster,
    DeployMany,
    DeployQuote,
    DepositFunds,
    DrainNode,
    EndDueLeases,
    ExtendLease,
    IssueQuote,
    Keyless,
    LoadFleet,
    MakeRoom,
    NoteDemand,
    NoteHeartbeats,
    PlaceOrder,
    PublishPrices,
    ReleaseLease,
    ReleaseQuote,
    RepairLease,
    ServeOrder,
    SetLedgerRules,
    SetNodeState,
    SettleInterruptible,
    SettleLeases,
    ShrinkLease,
    WithdrawFunds,
)
from engine.market.events import (
    AnyEvent,
    DemandNoted,
    FleetLoaded,
    Key,
    LeaseStarted,
    NodeStateSet,
    OrderEnded,
    OrderPlaced,
    PlanApplied,
    PricesPosted,
    QuoteEnded,
    QuoteIssued,
)
from engine.market.extend_decision import extend
from engine.market.failure_decision import drain_node, note_heartbeats, repair_lease
from engine.market.lease_decision import end_due, release
from engine.market.lease_terms import Terms
from engine.market.ledger.bookings import with_money
from engine.market.ledger.decision import decide_ledger
from engine.market.load_check import check_load, check_merge
from engine.market.many_decision import deploy_many
from engine.market.order_decision import cancel_order, place_order, serve_order
from engine.market.ownership import check_owner, owned_node
from engine.market.plan_decision import decide_plan
from engine.market.prices import PriceBook, posted_prices
from engine.market.quote_decision import issue_quote, named, quoted_terms, release_quote
from engine.market.room_decision import make_room
from engine.market.settle_decision import settle
from engine.market.shrink_decision import shrink
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
from engine.market.terms import terms_of


def decide(
    state: MarketState,
    command: Command,
    now_us: int,
    book: PriceBook,
    stopwatch: Stopwatch = NO_STOPWATCH,
) -> list[AnyEvent]:
    """The events that the command causes at `now_us`, each with the money that it moves."""
    return with_money(state, _decide(state, command, now_us, book, stopwatch))


def _decide(
    state: MarketState, command: Command, now_us: int, book: PriceBook, stopwatch: Stopwatch
) -> list[AnyEvent]:
    if not isinstance(command, Keyless) and subject_of(state, command.key) is not None:
        return []
    match command:
        case DeployCluster():
            return [_deploy(state, command, now_us, book, stopwatch)]
        case DeployMany():
            return [*deploy_many(state, command, now_us, book, stopwatch)]
        case DeployQuote():
            terms = quoted_terms(state, command, now_us, stopwatch)
            return [_lease_started(state, command.tenant_id, terms, now_us, command.key, command.quote_id)]
        case IssueQuote():
            return [issue_quote(state, command, now_us, book, stopwatch)]
        case ReleaseQuote():
            return release_quote(state, command, now_us)
        case ReleaseLease():
            return release(state, command, now_us)
        case ExtendLease():
            return extend(state, command, now_us)
        case ShrinkLease():
            return [shrink(state, command, now_us)]
        case EndDueLeases():
            return end_due(state, now_us)
        case SettleInterruptible():
            return settle(state, command, now_us)
        case MakeRoom():
            return make_room(state, command, now_us)
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
        case DepositFunds() | WithdrawFunds() | SettleLeases() | SetLedgerRules():
            return decide_ledger(state, command, now_us)


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


def _deploy(
    state: MarketState, command: DeployCluster, now_us: int, book: PriceBook, stopwatch: Stopwatch
) -> LeaseStarted:
    request, locks = named(command.request, state), command.lock_extension
    terms = terms_of(state, request, book, stopwatch, lock_extension=locks)
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


def _set_node_state(state: MarketState, command: SetNodeState, now_us: int) -> NodeStateSet:
    node = owned_node(state, command)
    return NodeStateSet(at_us=now_us, key=command.key, node=node, state=command.state.name)


def _load_fleet(state: MarketState, command: LoadFleet, now_us: int, book: PriceBook) -> list[AnyEvent]:
    check_owner(state, command)
    inventory = state.inventory
    updated = sum(node_id in inventory.number for node_id in command.nodes["node_id"].to_list())
    check_load(inventory, command)
    merged = inventory.merged(command.nodes, command.rtt)
    check_merge(merged)
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
