"""What a fleet load must keep of the fleet that is already there: its places, its limits, what is leased on it.

The rows themselves were checked before (`domain.tables`). A violation names row and column of the load and what
was sent, nothing of nodes that are not in it: a supplier must not learn of others' by trying.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_CERTIFICATIONS, MAX_NODES, MAX_SUPPLIER_CERTIFICATIONS
from engine.domain.table_rules import MAX_LISTED, violations_of
from engine.market.commands import LoadFleet
from engine.market.inventory import Inventory

SITE_COLUMNS = "region", "country", "latitude", "longitude"
KINDS = "nodes column certifications"


def check_load(inventory: Inventory, command: LoadFleet) -> None:
    """InvalidInput lists what the fleet would contradict or exceed after the load."""
    violations = [
        *_moved_sites(inventory.frame, command.nodes),
        *_too_many_nodes(inventory, command.nodes),
        *_too_many_kinds(inventory.frame, command),
    ]
    if violations:
        raise InvalidInput(violations)


def check_merge(merged: Inventory) -> None:
    """InvalidInput lists nodes that a load would leave with less than is leased or held there."""
    taken = merged.leased + merged.held
    cpu_taken, memory_taken, *_ = merged.beside()
    violations = [
        Violation(
            f"nodes/{merged.node_ids[node]}", f"{column} must be at least {needed[node]}, leased or held here"
        )
        for column, needed, left in (
            ("gpu_free", taken, merged.unused),
            ("cpu_milli", cpu_taken, merged.spare.cpu_milli),
            ("memory_mib", memory_taken, merged.spare.memory_mib),
        )
        for node in np.flatnonzero(left < 0)[:MAX_LISTED]
    ]
    if violations:
        raise InvalidInput(violations)


def _moved_sites(fleet: pl.DataFrame, nodes: pl.DataFrame) -> list[Violation]:
    """Rows that put a site elsewhere than nodes say that are not in the load."""
    stays = ~pl.col("node_id").is_in(nodes["node_id"].implode())
    standing = fleet.filter(pl.col("site_id").is_in(nodes["site_id"].unique().implode()) & stays)
    places = standing.select("site_id", *SITE_COLUMNS).unique("site_id", keep="any")
    beside = nodes.join(places, on="site_id", how="left", suffix="_stands", maintain_order="left")
    rules = [
        (column, pl.col(column) != pl.col(f"{column}_stands"), "differs from other nodes of the same site_id")
        for column in SITE_COLUMNS
    ]
    return violations_of(beside, "nodes", rules)


def _too_many_nodes(inventory: Inventory, nodes: pl.DataFrame) -> Iterator[Violation]:
    new = sum(node_id not in inventory.number for node_id in nodes["node_id"].to_list())
    if inventory.node_ids.size + new > MAX_NODES:
        yield Violation("nodes", f"the fleet would have more than the {MAX_NODES:,} nodes that are allowed")


def _too_many_kinds(fleet: pl.DataFrame, command: LoadFleet) -> Iterator[Violation]:
    """More kinds of certifications than the fleet can have, or than one supplier may bring in: else it could take
    all of them. What an operator loads counts for a supplier and is not held to that."""
    nodes = command.nodes
    others = fleet.filter(~pl.col("node_id").is_in(nodes["node_id"].implode()))
    if len(_kinds(others) | _kinds(nodes)) > MAX_CERTIFICATIONS:
        yield Violation(KINDS, f"the fleet would name more than the {MAX_CERTIFICATIONS} kinds that are allowed")
    if command.supplier_id is None:
        return
    own = pl.col("supplier_id") == command.supplier_id
    before, after = _kinds(fleet.filter(own)), _kinds(others.filter(own)) | _kinds(nodes)
    if len(after) > MAX_SUPPLIER_CERTIFICATIONS and after - before:
        allowed = f"at most {MAX_SUPPLIER_CERTIFICATIONS} are allowed for one supplier"
        yield Violation(KINDS, f"your nodes would name {len(after)} kinds, {allowed}; an operator can load more")


def _kinds(nodes: pl.DataFrame) -> set[str]:
    return set(nodes["certifications"].explode().unique().drop_nulls().to_list())
