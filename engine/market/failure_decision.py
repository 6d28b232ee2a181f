"""Deciding on failures: heartbeats that tell of lost nodes, drains with notice, leases that must leave.

A node that is lost or drained changes no lease by itself: many nodes are one event, and each lease is looked after
by a command of its own, in batches that the service bounds.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from engine.domain.limits import MILLI_OF_GPU
from engine.domain.tiers import NodeState
from engine.market.commands import DrainNode, NoteHeartbeats, RepairLease
from engine.market.end_reasons import EndReason
from engine.market.events import (
    AnyEvent,
    LeaseMoved,
    LeaseReclaiming,
    LeaseSpared,
    NodesHeard,
    NodesStateSet,
    OrderPlaced,
)
from engine.market.failure import HEARTBEAT, OPERATOR, uprooted
from engine.market.failure_placement import new_seats
from engine.market.lease_decision import lease_ended
from engine.market.ownership import owned_node
from engine.market.state import RECLAIMING, Lease, MarketState

Int = NDArray[np.int64]
NEVER_US = 2**62


def drain_node(state: MarketState, command: DrainNode, now_us: int) -> NodesStateSet:
    """A node takes no new work, and what runs there has until the deadline."""
    return NodesStateSet(
        at_us=now_us,
        key=command.key,
        nodes=_packed(np.array([owned_node(state, command)])),
        state=NodeState.DRAINING.name,
        cause=OPERATOR,
        deadline_us=now_us + command.notice_s * 1_000_000,
    )


def note_heartbeats(state: MarketState, command: NoteHeartbeats, now_us: int) -> list[AnyEvent]:
    """At most one event of each kind, however many nodes."""
    liveness, states = state.liveness, state.inventory.state
    first = [node for node in command.first.tolist() if node not in liveness.heard]
    lost = command.lost[states[command.lost] != NodeState.DOWN]
    back = [node for node in command.back.tolist() if node in liveness.lost]
    events: list[AnyEvent] = []
    if first:
        events.append(NodesHeard(at_us=now_us, nodes=_packed(np.array(first))))
    for nodes, became in ((lost, NodeState.DOWN), (np.array(back, dtype=np.int64), NodeState.READY)):
        if nodes.size:
            events.append(NodesStateSet(at_us=now_us, nodes=_packed(nodes), state=became.name, cause=HEARTBEAT))
    return events


def repair_lease(state: MarketState, command: RepairLease, now_us: int) -> list[AnyEvent]:
    """The lease at another place; if there is none, its end if it cannot stay, or notice while it may."""
    lease = state.leases.get(command.lease_id)
    if lease is None or not lease.runs or lease.due_at_us <= now_us:
        return []
    leaving = uprooted(state, lease)
    dead = state.inventory.state[lease.standing.node_numbers] == NodeState.DOWN
    is_over = _deadline_us(state, lease.standing.node_numbers) <= now_us
    for nodes in (leaving,) if is_over or (leaving == dead).all() else (leaving, dead):
        seats = new_seats(state, lease, nodes) if nodes.any() else None
        if seats is not None:
            moved = LeaseMoved(
                at_us=now_us,
                lease_id=lease.lease_id,
                nodes=_packed(seats.nodes),
                gpus=_packed(seats.gpus),
                prices_micro_usd_per_gpu_hour=seats.prices.astype("<i8").tobytes(),
                card=seats.card,
            )
            return [moved, *_noticed(state, lease, seats.nodes, now_us)]
    if dead.any():
        return _lost(state, lease, EndReason.NODE_LOST, now_us)
    if is_over:
        return _lost(state, lease, EndReason.SUPPLIER_DRAINED, now_us)
    return _noticed(state, lease, lease.standing.node_numbers, now_us)


def _noticed(state: MarketState, lease: Lease, nodes: Int, now_us: int) -> list[AnyEvent]:
    """Notice to a lease on some nodes until their drains; taken back if it may stay on them to its end.

    One that ends sooner by another notice keeps that. One that was outbid and must leave sooner is told so; if it
    is spared, whoever outbid it decides anew.
    """
    deadline_us = _deadline_us(state, nodes)
    if deadline_us >= lease.ends_at_us:
        return [LeaseSpared(at_us=now_us, lease_id=lease.lease_id)] if lease.must_move else []
    told_us = lease.reclaim_at_us if lease.state == RECLAIMING else NEVER_US
    if deadline_us == told_us or (deadline_us > told_us and not lease.must_move):
        return []
    reason = EndReason.SUPPLIER_DRAINED
    return [LeaseReclaiming(at_us=now_us, lease_id=lease.lease_id, reason=reason, reclaim_at_us=deadline_us)]


def _lost(state: MarketState, lease: Lease, reason: EndReason, now_us: int) -> list[AnyEvent]:
    """The end of a lease by no fault of its tenant, and the order for the rest if it asked for one."""
    ended = lease_ended(state, lease, reason, now_us)
    rest_s = (lease.ends_at_us - now_us) // 1_000_000
    if not lease.retry_on_loss_s or not rest_s:
        return [ended]
    terms = lease.standing
    limit = terms.request.max_price_micro_usd_per_gpu_hour
    paid = max(1, terms.rate_micro_usd_per_hour * MILLI_OF_GPU // terms.request.gpu_share)
    order = OrderPlaced(
        at_us=now_us,
        order_id=f"o-{state.version + 2:010d}",
        tenant_id=lease.tenant_id,
        request=replace(
            terms.request, duration_s=rest_s, max_price_micro_usd_per_gpu_hour=paid if limit is None else limit
        ),
        expires_at_us=now_us + lease.retry_on_loss_s * 1_000_000,
        priority=_priority(state, lease),
        retry_on_loss_s=lease.retry_on_loss_s,
        retry_of=lease.lease_id,
    )
    return [ended, order]


def _priority(state: MarketState, lease: Lease) -> int:
    order = state.orders.get(lease.order_id)
    return order.priority if order is not None else 0


def _deadline_us(state: MarketState, nodes: Int) -> int:
    """Until when a lease may stay on some nodes."""
    drains = state.liveness.drains
    return min((drains.get(node, NEVER_US) for node in nodes.tolist()), default=NEVER_US)


def _packed(numbers: Int) -> bytes:
    return numbers.astype("<i4").tobytes()
