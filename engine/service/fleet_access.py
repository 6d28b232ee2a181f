"""Which nodes a caller knows of: an operator all, a supplier its own, a node itself, a tenant those it leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from engine.domain.errors import PermissionDenied
from engine.domain.tiers import NodeState
from engine.market.state import MarketState
from engine.trust.permissions import Resource, authorize
from engine.trust.principal import Principal, Role


def known_node(state: MarketState, principal: Principal, action: str, node_id: str) -> int:
    """The node's number; NotFound alike for one that is not there and one that the caller may not know of."""
    number = state.inventory.number.get(node_id, -1)
    owners = {f"node:{node_id}"}
    if number >= 0:
        owners.add(f"supplier:{state.inventory.frame.item(number, 'supplier_id')}")
    if principal.has(Role.TENANT) and number in _leased_nodes(state, principal.name):
        owners.add(principal.account)
    authorize(principal, action, Resource("node", f"nodes/{node_id}", number >= 0, frozenset(owners), True))
    return number


def known_ids(state: MarketState, principal: Principal) -> Sequence[str]:
    """Ids of all nodes that the caller knows of, sorted."""
    inventory = state.inventory
    if principal.has(Role.OPERATOR):
        return inventory.sorted_ids
    if principal.has(Role.SUPPLIER):
        own = inventory.frame.filter(pl.col("supplier_id") == principal.name)["node_id"]
        return own.sort().to_list()
    return sorted(inventory.node_ids[_leased_nodes(state, principal.name)].tolist())


def supplier_scope(principal: Principal) -> str | None:
    """The supplier that the caller's changes to the fleet are confined to; None for an operator or a node."""
    return principal.name if principal.has(Role.SUPPLIER) else None


def check_reporter(principal: Principal, action: str, node_id: str, node_state: NodeState) -> None:
    """A node's credential reports of itself only, and only that it leaves: coming back is for others to say."""
    if not principal.has(Role.NODE):
        return
    itself = node_id == principal.name
    authorize(principal, action, Resource("node", f"nodes/{node_id}", itself, frozenset({principal.account})))
    if node_state is NodeState.READY:
        raise PermissionDenied("a node may report DRAINING or DOWN; its supplier or an operator makes it READY")


def reportable(state: MarketState, principal: Principal, action: str) -> Callable[[str], bool]:
    """Which nodes the caller may send heartbeats of: a node itself, a supplier its own, an operator all."""
    inventory = state.inventory
    authorize(principal, action)

    def may(node_id: str) -> bool:
        number = inventory.number.get(node_id, -1)
        if number < 0 or principal.has(Role.OPERATOR):
            return number >= 0
        if principal.has(Role.NODE):
            return node_id == principal.name
        return bool(inventory.suppliers.names[inventory.nodes.supplier[number]] == principal.name)

    return may


def _leased_nodes(state: MarketState, tenant_id: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Numbers of the nodes on which the tenant's leases run, sorted."""
    leases = (state.leases[lease_id] for lease_id in state.leases_of.get(tenant_id, ()))
    numbers = [lease.standing.node_numbers for lease in leases if lease.runs]
    return np.unique(np.concatenate(numbers)) if numbers else np.zeros(0, np.int64)
