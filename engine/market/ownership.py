"""Whose nodes a change may touch, asked where it is decided: the row's owner at that moment, not a moment ago."""

from __future__ import annotations

import polars as pl

from engine.domain.errors import InvalidInput, NotFound, Violation
from engine.domain.tables import MAX_LISTED
from engine.market.commands import DrainNode, LoadFleet, SetNodeState
from engine.market.state import MarketState


def owned_node(state: MarketState, command: SetNodeState | DrainNode) -> int:
    """The number of the command's node; another supplier's answers exactly like a missing one."""
    inventory = state.inventory
    node = inventory.number.get(command.node_id)
    if node is None or command.supplier_id not in (None, inventory.frame.item(node, "supplier_id")):
        raise NotFound(f"there is no node nodes/{command.node_id}")
    return node


def check_owner(state: MarketState, command: LoadFleet) -> None:
    """A supplier loads nodes of its own only: InvalidInput lists rows that are not, and measured pairs."""
    if command.supplier_id is None:
        return
    violations = [
        Violation(f"nodes row {row} column supplier_id", "must be your own supplier_id")
        for row in _rows(command.nodes["supplier_id"] != command.supplier_id)
    ]
    taken = _taken(state, command.supplier_id)
    violations += [
        Violation(f"nodes row {row} column node_id", "is taken")
        for row in _rows(command.nodes["node_id"].is_in(taken.implode()))
    ]
    if not command.rtt.is_empty():
        violations.append(
            Violation("rtts", "are for operators to load: they are about other suppliers' sites, too")
        )
    if violations:
        raise InvalidInput(violations)


def _taken(state: MarketState, supplier_id: str) -> pl.Series:
    frame = state.inventory.frame
    return frame.filter(pl.col("supplier_id") != supplier_id)["node_id"]


def _rows(wrong: pl.Series) -> list[int]:
    return wrong.arg_true().head(MAX_LISTED).to_list()
