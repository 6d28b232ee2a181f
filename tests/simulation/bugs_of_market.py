"""Planted bugs of the market: inventory, keys, snapshots, quotes, ledger, orders, failures, audit."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np

from engine.domain.errors import NotFound
from engine.domain.tiers import NodeState
from engine.market import (
    apply,
    decide,
    failure_placement,
    lease_decision,
    many_decision,
    many_start,
    order_decision,
    orders,
    plan_decision,
    quote_decision,
    terms,
)
from engine.market.events import LeaseStarted
from engine.market.inventory import Inventory
from engine.market.ledger import bookings
from engine.market.order_queue import OrderQueue
from engine.service import failure_runner, restoring
from engine.service.engine import Engine
from tests.service.loopback import Book
from tests.simulation.planting import both, bug, instead


@bug("held GPUs leased again (double lease)")
def _() -> Any:
    def take(right: Any, inventory: Inventory, use: Any, sign: int, *, held: bool) -> None:
        if held:
            inventory.held[use.nodes] += sign * use.gpus
        else:
            right(inventory, use, sign, held=held)

    return instead(Inventory, "_take", take)


@bug("one GPU of a lease forgotten when it starts")
def _() -> Any:
    def lease(right: Any, inventory: Inventory, nodes: Any, gpus: Any) -> None:
        taken = gpus.copy()
        if taken.size and taken[0] > 1:
            taken[0] -= 1
        right(inventory, nodes, taken)

    return instead(Inventory, "lease", lease)


@bug("missing idempotency")
def _() -> Any:
    return patch.object(decide, "subject_of", lambda state, key: None)


@bug("keys of a batch forgotten")
def _() -> Any:
    return patch.object(many_start, "_remember", lambda state, event, lease_ids: None)


@bug("a key twice in one batch starts two leases")
def _() -> Any:
    return patch.object(many_decision, "_new_keys", lambda state, command: len(command.keys))


@bug("one GPU of a batch forgotten when it starts")
def _() -> Any:
    def take(right: Any, state: Any, event: Any) -> None:
        right(state, event)
        state.inventory.unused[np.frombuffer(event.nodes, "<i4")[0]] += 1

    return instead(many_start, "_take", take)


@bug("key lost at restart")
def _() -> Any:
    return instead(restoring, "restore", lambda right, content: _without(right(content), "subjects"))


@bug("snapshot that forgets which nodes are watched")
def _() -> Any:
    def restore(right: Any, content: bytes) -> Any:
        state = right(content)
        state.liveness.heard.clear()
        return state

    return instead(restoring, "restore", restore)


@bug("snapshot that forgets open orders")
def _() -> Any:
    return instead(restoring, "restore", lambda right, content: _without(right(content), "open_orders"))


def _without(state: Any, name: str) -> Any:
    getattr(state, name).clear()
    return state


@bug("resurrected hold")
def _() -> Any:
    def restore(right: Any, content: bytes) -> Any:
        state = right(content)
        for quote in state.quotes.values():
            quote.end_reason = "" if quote.end_reason == "EXPIRED" else quote.end_reason
        return state

    return instead(restoring, "restore", restore)


@bug("replay that solves anew")
def _() -> Any:
    def applied(right: Any, state: Any, event: Any) -> None:
        if isinstance(event, LeaseStarted) and not event.quote_id:
            request = msgspec.structs.replace(event, terms=terms.terms_of(state, event.terms.request, Book()))
            event = request
        right(state, event)

    return instead(restoring, "apply", applied)


@bug("quote usable at the tick at which it expires")
def _() -> Any:
    return instead(
        decide,
        "quoted_terms",
        lambda right, state, command, now_us, watch: right(state, command, now_us - 1, watch),
    )


@bug("ends of leases, holds and orders a tick late")
def _() -> Any:
    return instead(Engine, "end_due", lambda right, engine, now_us: right(engine, now_us - 1))


@bug("quote usable twice")
def _() -> Any:
    return patch.object(quote_decision, "_check_usable", lambda state, quote, now_us: None)


@bug("quote priced anew when it is deployed")
def _() -> Any:
    def quoted(right: Any, state: Any, command: Any, *given: Any) -> Any:
        return terms.terms_of(state, right(state, command, *given).request, Book())

    return instead(decide, "quoted_terms", quoted)


@bug("hold given back twice")
def _() -> Any:
    def give_back(right: Any, state: Any, quote: Any, now_us: int) -> None:
        held = quote.holds
        right(state, quote, now_us)
        if held:
            state.inventory.give(apply.use_of(quote.terms), held=True)

    return instead(apply, "_give_back", give_back)


@bug("another tenant's lease released")
def _() -> Any:
    def owned(state: Any, tenant_id: str, lease_id: str) -> Any:
        if lease_id not in state.leases:
            raise NotFound(lease_id)
        return state.leases[lease_id]

    return patch.object(lease_decision, "owned_lease", owned)


@bug("another tenant's order cancelled")
def _() -> Any:
    def owned(state: Any, tenant_id: str, order_id: str) -> Any:
        if order_id not in state.orders:
            raise NotFound(order_id)
        return state.orders[order_id]

    return patch.object(order_decision, "owned_order", owned)


@bug("lost refund")
def _() -> Any:
    return patch.object(lease_decision, "refund_at_end", lambda *given: 0)


@bug("charged twice")
def _() -> Any:
    def set_aside(right: Any, draft: Any, lease_id: str, tenant_id: str, amount: int) -> Any:
        yield from right(draft, lease_id, tenant_id, amount)
        yield from right(draft, lease_id, tenant_id, amount)

    return instead(bookings._Draft, "_set_aside", set_aside)


@bug("ledger entry dropped")
def _() -> Any:
    return patch.object(bookings, "_settlement", lambda escrow, parts: [])


@bug("spending without funds")
def _() -> Any:
    def set_aside(draft: Any, lease_id: str, tenant_id: str, amount: int) -> Any:
        if amount:
            yield bookings._entry("ESCROW", lease_id, [(f"tenants/{tenant_id}", -amount)], f"escrows/{lease_id}")

    return patch.object(bookings._Draft, "_set_aside", set_aside)


@bug("order served twice")
def _() -> Any:
    return patch.object(orders, "fill", lambda state, event: None)


@bug("order never woken by a freed node")
def _() -> Any:
    return patch.object(OrderQueue, "_wake", lambda *given, **named: None)


@bug("lease left on a lost node")
def _() -> Any:
    return patch.object(failure_runner, "uprooted_leases", lambda state, names: [])


@bug("new work on a draining node")
def _() -> Any:
    def set_states(right: Any, inventory: Inventory, nodes: Any, state: NodeState) -> None:
        right(inventory, nodes, NodeState.READY if state is NodeState.DRAINING else state)

    return instead(Inventory, "set_states", set_states)


@bug("re-placement above the price")
def _() -> Any:
    return both(
        instead(
            failure_placement, "_placed", lambda right, fleet, demand, budget: right(fleet, demand, 3 * budget)
        ),
        patch.object(failure_placement, "_audit", lambda *given: None),
    )


@bug("fencing epoch that does not grow")
def _() -> Any:
    def move(right: Any, state: Any, event: Any) -> None:
        right(state, event)
        state.leases[event.lease_id].fencing_epoch -= 1

    return instead(apply, "_move", move)


@bug("audit off, with a wrong solver")
def _() -> Any:
    return patch.object(terms, "faults_of", lambda state, made: [])


@bug("plan's audit off, with a wrong planner")
def _() -> Any:
    return patch.object(plan_decision, "plan_faults", lambda state, events: [])
