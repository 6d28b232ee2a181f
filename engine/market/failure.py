"""Which nodes are watched by their heartbeats, which of them are lost, which are drained with a deadline.

Heartbeats themselves are no events; what they mean is (`service.heartbeats`). Only a node that its silence made
DOWN becomes READY by its heartbeats: what an operator decided stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.domain.tiers import NodeState
from engine.market.events import NodesHeard, NodesStateSet

if TYPE_CHECKING:
    from engine.market.state import Lease, MarketState

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
OPERATOR, HEARTBEAT = "OPERATOR", "HEARTBEAT"


@dataclass(slots=True)
class Liveness:
    """By node number. `drains`: until when leases must have left. `uprootings`: how often leases may have lost
    ground, or got it back; derived, for whoever looks after them."""

    heard: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    drains: dict[int, int] = field(default_factory=dict)
    uprootings: int = 0

    def facts(self) -> tuple[object, ...]:
        """Everything in it, for a hash."""
        return sorted(self.heard), sorted(self.lost), sorted(self.drains.items())

    def set_state(self, node: int, state: NodeState) -> None:
        """An operator changed one node, without a deadline."""
        self.lost.discard(node)
        was_drained = self.drains.pop(node, None) is not None
        self.uprootings += was_drained or state is NodeState.DOWN

    def keep_to(self, states: Int) -> None:
        """Forget what a load has overruled; `states` (nodes,)."""
        self.lost = {node for node in self.lost if states[node] == NodeState.DOWN}
        self.drains = {node: at for node, at in self.drains.items() if states[node] == NodeState.DRAINING}
        self.uprootings += 1


def hear(state: MarketState, event: NodesHeard) -> None:
    """Nodes are watched from now on."""
    state.liveness.heard.update(np.frombuffer(event.nodes, "<i4").tolist())


def set_states(state: MarketState, event: NodesStateSet) -> None:
    """Many nodes changed at once."""
    nodes, liveness = np.frombuffer(event.nodes, "<i4").astype(np.int64), state.liveness
    state.inventory.set_states(nodes, NodeState[event.state])
    state.fleet_version += 1
    listed = nodes.tolist()
    if event.cause == HEARTBEAT and event.state == NodeState.DOWN.name:
        liveness.lost.update(listed)
    else:
        liveness.lost.difference_update(listed)
    drained = liveness.drains.keys() & set(listed) if liveness.drains else set()
    for node in drained:
        del liveness.drains[node]
    if event.deadline_us:
        liveness.drains.update(dict.fromkeys(listed, event.deadline_us))
    liveness.uprootings += bool(drained) or event.deadline_us > 0 or event.state == NodeState.DOWN.name
    state.remember(event.key, str(listed[0]), event.at_us)


def uprooted(state: MarketState, lease: Lease) -> Flags:
    """Which nodes of a lease it must leave, (nodes,): those DOWN, and those drained with a deadline."""
    nodes, drains = lease.standing.node_numbers, state.liveness.drains
    states = state.inventory.state[nodes]
    found: Flags = states == NodeState.DOWN
    if drains:
        found = found | np.array([node in drains for node in nodes.tolist()])
    return found


def uprooted_leases(state: MarketState, lease_ids: list[str]) -> list[str]:
    """Those of some leases, known or not, that run and must leave a node, or had to and have the notice still."""
    known = (state.leases.get(name) for name in lease_ids)
    active = [lease for lease in known if lease is not None and lease.runs]
    if not active:
        return []
    unsafe = state.inventory.state == NodeState.DOWN
    unsafe[list(state.liveness.drains)] = True
    sizes = [len(lease.standing.nodes) // 4 for lease in active]
    nodes = np.frombuffer(b"".join(lease.standing.nodes for lease in active), "<i4")
    starts = np.cumsum([0, *sizes[:-1]])
    touched = np.logical_or.reduceat(unsafe[nodes], starts)
    return [lease.lease_id for lease, hit in zip(active, touched.tolist(), strict=True) if hit or lease.must_move]
