"""Deciding on quotes: issuing, holding, deploying, releasing. A hold ends exactly once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest, with_request_id
from engine.domain.errors import NotFound, Overloaded, QuoteUnusable
from engine.domain.limits import MILLI_OF_GPU
from engine.domain.tiers import NodeState
from engine.market.audit import faults_of
from engine.market.commands import DeployQuote, HoldLimits, IssueQuote, ReleaseQuote
from engine.market.events import AnyEvent, KeyUsed, QuoteEnded, QuoteIssued
from engine.market.inventory import Inventory
from engine.market.lease_terms import Terms
from engine.market.prices import PriceBook
from engine.market.state import MarketState, Quote
from engine.market.stopwatch import Stopwatch
from engine.market.terms import terms_of
from engine.market.use import use_of
from solvers.pools import END, GPU_COUNT, START

Int = NDArray[np.int64]
RELEASED, EXPIRED = "RELEASED", "EXPIRED"
CAPACITY_GONE = "QUOTE_CAPACITY_GONE"
HOLD_LIMIT_TENANT, HOLD_LIMIT_POOL = "HOLD_LIMIT_TENANT", "HOLD_LIMIT_POOL"
RETRY_HOLD_S = 60.0
AWAY_SHOWN = 3
"""Nodes named of those that are not READY."""


def issue_quote(
    state: MarketState, command: IssueQuote, now_us: int, book: PriceBook, stopwatch: Stopwatch
) -> QuoteIssued:
    """A quote, and its hold if wanted; Overloaded (HOLD_LIMIT_…) if too much is held."""
    hold_s = command.ttl_s if command.hold is not None else 0
    request, locks = named(command.request, state), command.lock_extension
    terms = terms_of(state, request, book, stopwatch, hold_s=hold_s, lock_extension=locks)
    if command.hold is not None:
        _check_tenant(state, command.tenant_id, terms, command.hold)
        _check_pools(state, terms, command.hold)
    return QuoteIssued(
        at_us=now_us,
        key=command.key,
        quote_id=f"q-{state.version + 1:010d}",
        tenant_id=command.tenant_id,
        terms=terms,
        expires_at_us=now_us + command.ttl_s * 1_000_000,
        hold=command.hold is not None,
    )


def quoted_terms(state: MarketState, command: DeployQuote, now_us: int, stopwatch: Stopwatch) -> Terms:
    """The terms of a quote that can be deployed now; QuoteUnusable if it cannot."""
    quote = owned_quote(state, command.tenant_id, command.quote_id)
    _check_usable(state, quote, now_us)
    stopwatch.lap("decision")
    if faults := faults_of(state, quote.terms, at_posted_prices=False, own=quote.holds):
        changed = f"the fleet has changed since quotes/{quote.quote_id}: it {'; '.join(faults)}"
        raise QuoteUnusable("QUOTE_TERMS_GONE", changed)
    stopwatch.lap("audit")
    return quote.terms


def release_quote(state: MarketState, command: ReleaseQuote, now_us: int) -> list[AnyEvent]:
    """The end of a quote; of one that is over already, nothing."""
    quote = owned_quote(state, command.tenant_id, command.quote_id)
    if quote.lease_id or quote.end_reason or now_us >= quote.expires_at_us:
        return [KeyUsed(at_us=now_us, key=command.key, subject=quote.quote_id)] if command.key else []
    return [QuoteEnded(at_us=now_us, key=command.key, quote_id=quote.quote_id, reason=RELEASED)]


def owned_quote(state: MarketState, tenant_id: str, quote_id: str) -> Quote:
    """The tenant's quote; another tenant's answers exactly like a missing one."""
    quote = state.quotes.get(quote_id)
    if quote is None or quote.tenant_id != tenant_id:
        raise NotFound(f"there is no quote quotes/{quote_id}")
    return quote


def named(request: ClusterRequest, state: MarketState) -> ClusterRequest:
    """The request with an id; one that came without gets the version it was decided at."""
    return request if request.request_id else with_request_id(request, f"req-{state.version + 1:010d}")


def _check_usable(state: MarketState, quote: Quote, now_us: int) -> None:
    name, terms, inventory = f"quotes/{quote.quote_id}", quote.terms, state.inventory
    if quote.lease_id:
        raise QuoteUnusable("QUOTE_USED", f"{name} was deployed before")
    if quote.end_reason == RELEASED:
        raise QuoteUnusable("QUOTE_RELEASED", f"{name} was released; ask for a new one")
    if now_us >= quote.expires_at_us:
        raise QuoteUnusable("QUOTE_EXPIRED", f"{name} has expired; ask for a new one")
    if away := _away(inventory, terms.node_numbers):
        until = "deploy it once they are READY and before it expires, or ask for a new one"
        raise QuoteUnusable(CAPACITY_GONE, f"nodes of {name} take no work now: {away}; {until}")
    if not quote.holds and not inventory.has_room(use_of(terms)).all():
        raise QuoteUnusable(CAPACITY_GONE, f"capacity of {name} is taken; ask for a new one")


def _away(inventory: Inventory, nodes: Int) -> str:
    """Which of some nodes are not READY, and what they are; empty if all are."""
    states = inventory.state[nodes]
    away = np.flatnonzero(states != int(NodeState.READY))
    shown = away[:AWAY_SHOWN]
    told = [
        f"nodes/{node_id} is {NodeState(state).name}"
        for node_id, state in zip(inventory.node_ids[nodes[shown]], states[shown].tolist(), strict=True)
    ]
    return ", ".join(told) + (f" and {away.size - shown.size:,} more" if away.size > shown.size else "")


def _check_tenant(state: MarketState, tenant_id: str, terms: Terms, limits: HoldLimits) -> None:
    own, wanted = state.held_by.get(tenant_id, {}), terms.request.gpu_count
    if len(own) >= limits.tenant_quotes_max:
        raise _limited(HOLD_LIMIT_TENANT, f"{len(own)} quotes of this tenant hold GPUs, the most that may")
    held = sum(own.values())
    if held + wanted > limits.tenant_gpus_max:
        raise _limited(
            HOLD_LIMIT_TENANT,
            f"this tenant holds {held:,} GPUs and wants {wanted:,} more; it may hold {limits.tenant_gpus_max:,}",
        )


def _check_pools(state: MarketState, terms: Terms, limits: HoldLimits) -> None:
    """No pool may be held beyond its share: holds cost little, and must not lock a place for everybody."""
    inventory, pools = state.inventory, state.inventory.pools
    own = pools.pool_of[pools.slot_of[terms.node_numbers]]
    for pool in np.unique(own).tolist():
        start, end = int(pools.table[pool, START]), int(pools.table[pool, END])
        wanted = int(terms.gpus_per_node[own == pool].sum())
        nodes = pools.node[start:end]
        held = int(inventory.held[nodes].sum()) - (-int(inventory.held_milli[nodes].sum()) // MILLI_OF_GPU)
        gpus = (end - start) * int(pools.table[pool, GPU_COUNT])
        allowed = max(int(limits.pool_share_max * gpus), limits.pool_gpus_free_of_limit)
        if held + wanted > allowed:
            raise _limited(
                HOLD_LIMIT_POOL,
                f"{held:,} of {gpus:,} GPUs like those of nodes/{inventory.node_ids[pools.node[start]]} are held; "
                f"with {wanted:,} more it would be above {allowed:,}",
            )


def _limited(reason: str, message: str) -> Overloaded:
    refusal = Overloaded(message, RETRY_HOLD_S)
    refusal.reason = reason
    return refusal
