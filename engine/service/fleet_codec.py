"""Between the contract's messages of FleetService and frames of its columns."""

from __future__ import annotations

from typing import Any

import polars as pl
from walras.v1 import fleet_service_pb2 as pb

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_NODES
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState
from engine.market.inventory import Inventory

MAX_RTT_PAIRS = 20_000_000


class FleetChunks:
    """Collects the chunks of one load, checking each one's shape as it comes."""

    def __init__(self) -> None:
        self._nodes: list[pl.DataFrame] = []
        self._rtts: list[pl.DataFrame] = []
        self._chunk = 0
        self._rows = {"nodes": 0, "rtts": 0}

    def add(self, request: pb.LoadFleetRequest) -> None:
        """Take one chunk; InvalidInput names the chunk and the columns whose lengths differ."""
        if request.HasField("nodes"):
            self._nodes.append(self._frame(request.nodes, "nodes", FLEET_SCHEMA, MAX_NODES))
        if request.HasField("rtts"):
            self._rtts.append(self._frame(request.rtts, "rtts", RTT_SCHEMA, MAX_RTT_PAIRS))
        self._chunk += 1

    def nodes(self) -> pl.DataFrame:
        """All rows of nodes, of FLEET_SCHEMA."""
        frame = pl.concat([pl.DataFrame(schema=_WIRE_FLEET), *self._nodes])
        return frame.with_columns(
            pl.when(pl.col("certifications") != "").then(pl.col("certifications").str.split(",")).otherwise([]),
            pl.when(pl.col("fabric_id") != "").then(pl.col("fabric_id")),
        ).cast(FLEET_SCHEMA)  # type: ignore[arg-type]

    def rtts(self) -> pl.DataFrame:
        """All rows of measured pairs, of RTT_SCHEMA."""
        return pl.concat([pl.DataFrame(schema=RTT_SCHEMA), *self._rtts])

    def _frame(self, columns: Any, name: str, schema: dict[str, Any], rows_max: int) -> pl.DataFrame:
        lengths = {column: len(getattr(columns, column)) for column in schema}
        rows = lengths["node_id" if name == "nodes" else "site_a"]
        where = f"chunk {self._chunk} {name}"
        wrong = [
            Violation(f"{where}.{column}", f"has {length} entries where the first column has {rows}")
            for column, length in lengths.items()
            if length != rows
        ]
        self._rows[name] += rows
        if self._rows[name] > rows_max:
            wrong.append(Violation(where, f"there are more than {rows_max} rows"))
        if wrong:
            raise InvalidInput(wrong)
        wire = _WIRE_FLEET if name == "nodes" else schema
        return pl.DataFrame({column: list(getattr(columns, column)) for column in schema}, schema=wire)


_WIRE_FLEET = {**FLEET_SCHEMA, "certifications": pl.String()}
"""On the wire a node's certifications are one text, joined by commas."""


def node_message(inventory: Inventory, number: int) -> pb.Node:
    """The contract's node."""
    row = inventory.frame.row(number, named=True)
    leased = int(inventory.leased[number])
    return pb.Node(
        name=f"nodes/{row['node_id']}",
        node_id=row["node_id"],
        supplier_id=row["supplier_id"],
        gpu_model=row["gpu_model"],
        gpu_count=row["gpu_count"],
        gpu_free=row["gpu_free"] - leased,
        site_id=row["site_id"],
        region=row["region"],
        country=row["country"],
        latitude=row["latitude"],
        longitude=row["longitude"],
        security_tier=row["security_tier"],
        certifications=row["certifications"] or [],
        connectivity_tier=row["connectivity_tier"],
        reliability=row["reliability"],
        ask_micro_usd_per_gpu_hour=row["ask_micro_usd_per_gpu_hour"],
        interconnect=row["interconnect"],
        fabric_id=row["fabric_id"] or "",
        state=NodeState(int(inventory.state[number])).name,
        gpu_leased=leased,
    )


def stats_message(inventory: Inventory) -> pb.FleetStats:
    """Counts of GPUs by what they do; they sum to the registered ones."""
    nodes = inventory.nodes
    unused = nodes.gpu_count - inventory.outside - inventory.leased
    by_state = {state: int(unused[inventory.state == int(state)].sum()) for state in NodeState}
    return pb.FleetStats(
        gpus_registered=int(nodes.gpu_count.sum()),
        gpus_free=by_state[NodeState.READY],
        gpus_leased=int(inventory.leased.sum()),
        gpus_draining=by_state[NodeState.DRAINING],
        gpus_dead=by_state[NodeState.DOWN],
        gpus_used_outside=int(inventory.outside.sum()),
        nodes=int(nodes.gpu_count.size),
        pools=inventory.pools.table.shape[0] if nodes.gpu_count.size else 0,
    )
