"""Deciding commands: state and time in, events out. Changes nothing and touches nothing outside.

A refusal is an exception of `engine.domain.errors`. A command whose idempotency key was used before decides
nothing (no events); the caller answers from the object that the first call made (`subject_of`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import (
    AuditFailed,
    IdempotencyConflict,
    InvalidInput,
    NotFound,
    QuoteUnusable,
    Refused,
    Violation,
)
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.domain.money import total_micro_usd
from engine.domain.tables import MAX_LISTED, check_fleet
from engine.market.apply import write_frame
from engine.market.audit import faults_of
from engine.market.commands import (
    ApplyPlan,
    Command,
    DeployCluster,
    DeployQuote,
    EndDueLeases,
    IssueQuote,
    LoadFleet,
    ReleaseLease,
    SetNodeState,
)
from engine.market.demand import demand_of
from engine.market.events import (
    AnyEvent,
    FleetLoaded,
    Key,
    KeyUsed,
    LeaseEnded,
    LeaseStarted,
    NodeStateSet,
    PlanApplied,
    PricesPosted,
    QuoteIssued,
    Terms,
)
from engine.market.inventory import Inventory
from engine.market.plan_decision import decide_plan
from engine.market.prices import PriceBook, posted_prices, price_lines
from engine.market.state import ACTIVE, Lease, MarketState, Quote
from engine.market.stopwatch import NO_STOPWATCH, Stopwatch
from solvers.placement import NoPlacement, Placement

NO_CAPACITY, PRICE_CAP, SEARCH_LIMIT = "NO_CAPACITY", "PRICE_CAP", "SEARCH_LIMIT"


def decide(
    state: MarketState,
    command: Command,
    now_us: int,
    book: PriceBook,
    stopwatch: Stopwatch = NO_STOPWATCH,
) -> list[AnyEvent]:
    """The events that the command causes at `now_us`."""
    if not isinstance(command, EndDueLeases) and subject_of(state, command.key) is not None:
        return []
    match command:
        case DeployCluster():
            return [_deploy(state, command, now_us, book, stopwatch)]
        case DeployQuote():
            return [_deploy_quote(state, command, now_us, stopwatch)]
        case IssueQuote():
            return [_issue_quote(state, command, now_us, book, stopwatch)]
        case ReleaseLease():
            return _release(state, command, now_us)
        case EndDueLeases():
            return _end_due(state, now_us)
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
    """Id of the lease, quote, load or applied plan of the events; without events, of an earlier call."""
    for event in reversed(events):
        if isinstance(event, LeaseStarted):
            return event.lease_id
        if isinstance(event, QuoteIssued):
            return event.quote_id
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


def terms_of(
    state: MarketState, request: ClusterRequest, book: PriceBook, stopwatch: Stopwatch = NO_STOPWATCH
) -> Terms:
    """Place and price a request, audited; Refused if that is impossible now."""
    demand = demand_of(state.inventory, request, book.models())
    found = state.inventory.placer.place(demand)
    if isinstance(found, NoPlacement):
        raise _refusal(found)
    cap = request.max_price_micro_usd_per_gpu_hour
    if cap is not None and found.rate > cap * request.gpu_count:
        raise _over_cap(found, cap, request.gpu_count)
    terms = _terms(state, request, found)
    stopwatch.lap("decision")
    _audit(state, terms)
    stopwatch.lap("audit")
    return terms


def _refusal(found: NoPlacement) -> Refused:
    if found.proven:
        return Refused(NO_CAPACITY, "no placement keeps all constraints")
    return Refused(
        SEARCH_LIMIT,
        f"no placement was found within {found.relaxations} relaxations over close sites; there may be one",
    )


def _over_cap(found: Placement, cap: int, gpu_count: int) -> Refused:
    if found.lower_bound <= cap * gpu_count:
        return Refused(SEARCH_LIMIT, "the search over close sites ended before a placement within the cap")
    cheapest = -(-found.rate // gpu_count)
    return Refused(
        PRICE_CAP,
        f"the cheapest placement averages {cheapest} micro-USD per GPU-hour, above the cap of {cap}",
        cheapest_micro_usd_per_gpu_hour=str(cheapest),
    )


def _terms(state: MarketState, request: ClusterRequest, found: Placement) -> Terms:
    duration_s = request.priced_duration_s
    total = total_micro_usd(int(found.rate), duration_s)
    if total > MAX_TOTAL_MICRO_USD:
        raise InvalidInput([Violation("duration_s", "makes the total larger than can be charged")])
    return Terms(
        request=request,
        nodes=found.nodes.astype("<i4").tobytes(),
        gpus=found.gpus.astype("<i4").tobytes(),
        prices_micro_usd_per_gpu_hour=found.prices_micro_usd.astype("<i8").tobytes(),
        lines=price_lines(state.inventory, found, duration_s),
        rate_micro_usd_per_hour=int(found.rate),
        duration_s=duration_s,
        total_micro_usd=total,
        price_snapshot_id=state.inventory.price_snapshot_id,
        lower_bound_micro_usd_per_hour=int(found.lower_bound),
        idle_nodes_broken=int(found.idle_broken),
        relaxations_solved=found.relaxations,
        fleet_version=state.fleet_version,
    )


def _audit(state: MarketState, terms: Terms) -> None:
    if faults := faults_of(state, terms):
        raise AuditFailed("the placement failed its audit: " + "; ".join(faults))


def _deploy(
    state: MarketState, command: DeployCluster, now_us: int, book: PriceBook, stopwatch: Stopwatch
) -> LeaseStarted:
    terms = terms_of(state, _named(command.request, "req", state), book, stopwatch)
    return _lease_started(state, command.tenant_id, terms, now_us, command.key)


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


def _issue_quote(
    state: MarketState, command: IssueQuote, now_us: int, book: PriceBook, stopwatch: Stopwatch
) -> QuoteIssued:
    terms = terms_of(state, _named(command.request, "req", state), book, stopwatch)
    return QuoteIssued(
        at_us=now_us,
        key=command.key,
        quote_id=f"q-{state.version + 1:010d}",
        tenant_id=command.tenant_id,
        terms=terms,
        expires_at_us=now_us + command.ttl_s * 1_000_000,
    )


def _deploy_quote(state: MarketState, command: DeployQuote, now_us: int, stopwatch: Stopwatch) -> LeaseStarted:
    quote = state.quotes.get(command.quote_id)
    if quote is None or quote.tenant_id != command.tenant_id:
        raise NotFound(f"there is no quote quotes/{command.quote_id}")
    _check_usable(state, quote, now_us)
    stopwatch.lap("decision")
    if faults := faults_of(state, quote.terms, at_posted_prices=False):
        changed = f"the fleet has changed since quotes/{quote.quote_id}: it {'; '.join(faults)}"
        raise QuoteUnusable("QUOTE_TERMS_GONE", changed)
    stopwatch.lap("audit")
    return _lease_started(state, command.tenant_id, quote.terms, now_us, command.key, quote.quote_id)


def _check_usable(state: MarketState, quote: Quote, now_us: int) -> None:
    if quote.lease_id:
        raise QuoteUnusable("QUOTE_USED", f"quotes/{quote.quote_id} was deployed before")
    if now_us >= quote.expires_at_us:
        raise QuoteUnusable("QUOTE_EXPIRED", f"quotes/{quote.quote_id} has expired; ask for a new one")
    terms = quote.terms
    if (state.inventory.free[terms.node_numbers] < terms.gpus_per_node).any():
        raise QuoteUnusable(
            "QUOTE_CAPACITY_GONE", f"capacity of quotes/{quote.quote_id} is taken; ask for a new one"
        )


def _release(state: MarketState, command: ReleaseLease, now_us: int) -> list[AnyEvent]:
    lease = owned_lease(state, command.tenant_id, command.lease_id)
    if lease.state != ACTIVE:
        return [KeyUsed(at_us=now_us, key=command.key, subject=lease.lease_id)] if command.key else []
    return [
        LeaseEnded(at_us=now_us, key=command.key, lease_id=lease.lease_id, reason="RELEASED", ended_at_us=now_us)
    ]


def _end_due(state: MarketState, now_us: int) -> list[AnyEvent]:
    return [
        LeaseEnded(at_us=now_us, lease_id=lease_id, reason="COMPLETED", ended_at_us=ends_at_us)
        for ends_at_us, lease_id in state.due_by(now_us)
    ]


def _set_node_state(state: MarketState, command: SetNodeState, now_us: int) -> NodeStateSet:
    node = state.inventory.number.get(command.node_id)
    if node is None:
        raise NotFound(f"there is no node nodes/{command.node_id}")
    return NodeStateSet(at_us=now_us, key=command.key, node=node, state=command.state.name)


def _load_fleet(state: MarketState, command: LoadFleet, now_us: int, book: PriceBook) -> list[AnyEvent]:
    inventory = state.inventory
    updated = sum(node_id in inventory.number for node_id in command.nodes["node_id"].to_list())
    check_fleet(inventory.merged_frame(command.nodes), "fleet after the load")
    merged = inventory.merged(command.nodes, command.rtt)
    _check_merge(merged)
    prices, sources, snapshot = posted_prices(merged, book)
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
        price_snapshot_id=snapshot,
        posted_micro_usd_per_gpu_hour=prices.astype("<i8").tobytes(),
        sources=sources,
    )
    return [loaded, posted]


def _check_merge(merged: Inventory) -> None:
    """What a load must not break in the fleet that is already there."""
    leased = merged.leased
    violations = [
        Violation(f"nodes/{merged.node_ids[node]}", f"gpu_free must be at least {leased[node]}, leased here")
        for node in np.flatnonzero(merged.unused < 0)[:MAX_LISTED]
    ]
    if violations:
        raise InvalidInput(violations)


def _named(request: ClusterRequest, prefix: str, state: MarketState) -> ClusterRequest:
    """The request with an id; one that came without gets the version it was decided at."""
    return request if request.request_id else replace(request, request_id=f"{prefix}-{state.version + 1:010d}")
