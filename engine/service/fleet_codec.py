"""Between the contract's messages of FleetService and frames of its columns."""

from __future__ import annotations

from typing import Any

import polars as pl
from walras.v1 import fleet_service_pb2 as pb

from engine.domain.errors import InvalidInput, Violation
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState
from engine.market.inventory import Inventory
from engine.market.state import Load, MarketState

LIMITS, NO_LIMIT = ("cpu_milli", "memory_mib"), -1
"""Columns that a load may leave out as a whole, and their value on the wire where nothing is limited."""
LOAD_BYTES_MAX = 512 * 1024 * 1024
MAX_VIOLATIONS = 100


class FleetChunks:
    """Collects the chunks of one load, checking each one's shape as it comes."""

    def __init__(self) -> None:
        self._nodes: list[pl.DataFrame] = []
        self._rtts: list[pl.DataFrame] = []
        self._chunk = self._bytes = 0
        self.violations: list[Violation] = []

    def add(self, request: pb.LoadFleetRequest) -> None:
        """Take one chunk, noting in `violations` where columns differ in length; InvalidInput beyond the limit."""
        self._bytes += request.ByteSize()
        if self._bytes > LOAD_BYTES_MAX:
            raise InvalidInput([Violation(f"chunk {self._chunk}", f"the load exceeds {LOAD_BYTES_MAX:,} bytes")])
        if request.HasField("nodes"):
            self._take(self._nodes, request.nodes, "nodes", FLEET_SCHEMA)
        if request.HasField("rtts"):
            self._take(self._rtts, request.rtts, "rtts", RTT_SCHEMA)
        self._chunk += 1

    def nodes(self) -> pl.DataFrame:
        """All rows of nodes, of FLEET_SCHEMA."""
        frame = _in_one_form(pl.concat([pl.DataFrame(schema=_WIRE_FLEET), *self._nodes]))
        return frame.with_columns(
            pl.when(pl.col("certifications") != "").then(pl.col("certifications").str.split(",")).otherwise([]),
            pl.when(pl.col("fabric_id") != "").then(pl.col("fabric_id")),
            *(pl.when(pl.col(name) != NO_LIMIT).then(pl.col(name)).alias(name) for name in LIMITS),
        ).cast(FLEET_SCHEMA)  # type: ignore[arg-type]

    def rtts(self) -> pl.DataFrame:
        """All rows of measured pairs, of RTT_SCHEMA."""
        return _in_one_form(pl.concat([pl.DataFrame(schema=RTT_SCHEMA), *self._rtts]))

    def _take(self, frames: list[pl.DataFrame], columns: Any, name: str, schema: dict[str, Any]) -> None:
        lengths = {column: len(getattr(columns, column)) for column in schema}
        rows = lengths["node_id" if name == "nodes" else "site_a"]
        wrong = [
            Violation(
                f"chunk {self._chunk} {name}.{column}", f"has {length} entries where the first column has {rows}"
            )
            for column, length in lengths.items()
            if length != rows and (length or column not in LIMITS)
        ]
        self.violations.extend(wrong[: MAX_VIOLATIONS - len(self.violations)])
        if not wrong:
            wire = _WIRE_FLEET if name == "nodes" else schema
            values = {column: list(getattr(columns, column)) for column in schema}
            frames.append(pl.DataFrame(values | _not_limited(values, rows), schema=wire))


def _not_limited(values: dict[str, list[Any]], rows: int) -> dict[str, list[int]]:
    return {name: [NO_LIMIT] * rows for name in LIMITS if name in values and not values[name]}


def _in_one_form(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with text in NFC, like all text that comes over the wire."""
    text = pl.col(pl.String)
    beyond_ascii = frame.select((text.str.len_bytes() > text.str.len_chars()).any()).row(0)
    return frame.with_columns(text.str.normalize("NFC")) if any(beyond_ascii) else frame


_WIRE_FLEET = {**FLEET_SCHEMA, "certifications": pl.String()}
"""On the wire a node's certifications are one text, joined by commas."""


def node_message(inventory: Inventory, number: int) -> pb.Node:
    """The contract's node."""
    row = inventory.frame.row(number, named=True)
    unused = int(inventory.unused[number])
    return pb.Node(
        name=f"nodes/{row['node_id']}",
        node_id=row["node_id"],
        supplier_id=row["supplier_id"],
        gpu_model=row["gpu_model"],
        gpu_count=row["gpu_count"],
        gpu_free=unused,
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
        gpu_leased=row["gpu_free"] - unused - int(inventory.held[number]),
        gpu_held=int(inventory.held[number]),
        shared_cards=[
            pb.SharedCard(card=card, gpu_milli_free=left)
            for card, left in inventory.spare.cards.of(number).items()
        ],
        **_limits(inventory, row, number),
    )


def _limits(inventory: Inventory, row: dict[str, Any], number: int) -> dict[str, int]:
    """CPU and memory with what is left of them, where they are limited."""
    spare = {"cpu_milli": inventory.spare.cpu_milli, "memory_mib": inventory.spare.memory_mib}
    return {
        field: int(value)
        for name in LIMITS
        if row[name] is not None
        for field, value in ((name, row[name]), (f"{name}_free", spare[name][number]))
    }


def load_message(load: Load) -> pb.LoadFleetResponse:
    """The contract's answer to a load."""
    return pb.LoadFleetResponse(
        nodes_added=load.nodes_added,
        nodes_updated=load.nodes_updated,
        rtt_pairs=load.rtt_pairs,
        gpus_registered=load.gpus_registered,
        pools=load.pools,
        fleet_version=load.fleet_version,
    )


def stats_message(state: MarketState) -> pb.FleetStats:
    """Counts of GPUs by what they do; they sum to the registered ones."""
    inventory = state.inventory
    nodes = inventory.nodes
    by_state = {each: int(inventory.unused[inventory.state == int(each)].sum()) for each in NodeState}
    return pb.FleetStats(
        gpus_registered=int(nodes.gpu_count.sum()),
        gpus_free=by_state[NodeState.READY],
        gpus_leased=int(inventory.leased.sum()),
        gpus_held=int(inventory.held.sum()),
        gpus_draining=by_state[NodeState.DRAINING],
        gpus_dead=by_state[NodeState.DOWN],
        gpus_used_outside=int(inventory.outside.sum()),
        nodes=int(nodes.gpu_count.size),
        pools=inventory.pools.table.shape[0] if nodes.gpu_count.size else 0,
        leases_active=state.active,
        state_version=state.version,
        fleet_version=state.fleet_version,
    )
