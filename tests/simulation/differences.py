"""What an engine's state says otherwise than the twin that followed the same events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.market.state import MarketState
from tests.simulation.things import Lease
from tests.simulation.twin import Twin


def differences(twin: Twin, state: MarketState) -> Iterator[str]:
    """What an engine's state says otherwise, at a glance: counts and balances."""
    inventory = state.inventory
    rows = [twin.rows[name] for name in twin.ids]
    taken, held = ([used.get(name, 0) for name in twin.ids] for used in (twin.taken, twin.held))
    free = [row["gpu_free"] - leased - kept for row, leased, kept in zip(rows, taken, held, strict=True)]
    if state.version != twin.version:
        yield f"law 4: version {state.version} and not {twin.version}"
    if inventory.unused.tolist() != free:
        yield f"law 1: GPUs unused {inventory.unused.tolist()} and not {free}"
    if inventory.held.tolist() != held:
        yield f"law 1: GPUs held {inventory.held.tolist()}"
    if inventory.leased.tolist() != taken:
        yield f"law 1: GPUs leased {inventory.leased.tolist()}"
    states = ["READY", "DRAINING", "DOWN"]
    if [states[code] for code in inventory.state.tolist()] != [row["state"] for row in rows]:
        yield "law 1: states of nodes"
    if state.open_orders.keys() != twin.waiting.keys():
        yield f"law 4: open orders {list(state.open_orders)} and not {list(twin.waiting)}"
    if state.active != len(twin.running):
        yield f"law 4: {state.active} leases run and not {len(twin.running)}"
    if state.books.balances != twin.balances:
        yield f"law 6: balances {state.books.balances} and not {twin.balances}"


def all_differences(twin: Twin, state: MarketState) -> Iterator[str]:
    """The same of every object that there is, for a state that was restored."""
    yield from differences(twin, state)
    for name, lease in twin.leases.items():
        own = state.leases.get(name)
        if own is None:
            yield f"law 4: {name} is gone"
        elif _lease_facts(own) != _twin_facts(lease):
            yield f"law 4: {name} is {_lease_facts(own)} and not {_twin_facts(lease)}"
    for name, quote in twin.quotes.items():
        kept = state.quotes.get(name)
        if kept is None:
            yield f"law 4: {name} is gone"
        elif (kept.lease_id, kept.end_reason, kept.holds) != (quote.lease, quote.reason, quote.holds):
            yield f"law 5: {name} is {kept.lease_id, kept.end_reason, kept.holds}"
    for name, order in twin.orders.items():
        if name not in state.orders or state.orders[name].state != order.state:
            yield f"law 4: {name} is not {order.state}"
    if state.subjects.keys() != twin.keys.keys():
        yield f"law 4: keys {set(twin.keys) ^ set(state.subjects)} are known to one side only"
    if sorted(state.liveness.heard) != sorted(twin.heard):
        yield "law 4: nodes that were heard"


def _lease_facts(lease: Any) -> tuple[object, ...]:
    notice_us = lease.reclaim_at_us if lease.runs else 0
    return lease.tenant_id, lease.runs, lease.end_reason, lease.ends_at_us, lease.fencing_epoch, notice_us


def _twin_facts(lease: Lease) -> tuple[object, ...]:
    notice_us = lease.notice_us if lease.is_running else 0
    return lease.tenant, lease.is_running, lease.reason, lease.ends_us, lease.epoch, notice_us
