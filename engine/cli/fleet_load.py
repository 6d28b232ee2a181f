"""Loading an inventory into a running engine: read, check, stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from walras.v1 import fleet_service_pb2, fleet_service_pb2_grpc

from engine.cli.connection import BULK_TIMEOUT_S, Connection
from engine.cli.fleet_chunks import fleet_chunks, reject_commas, rows_of, rtt_chunks
from engine.cli.screen import remarks
from engine.domain.errors import InvalidInput
from engine.domain.tables import (
    FLEET_SCHEMA,
    OPTIONAL_FLEET_COLUMNS,
    RTT_SCHEMA,
    check_fleet,
    check_rtt,
    read_table,
)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Checked tables, ready to send."""

    fleet: pl.DataFrame
    rtt: pl.DataFrame


def read_inventory(fleet_file: Path, rtt_file: Path | None) -> Inventory:
    """Read and check both files; InvalidInput lists the violations of both together."""
    problems: list[InvalidInput] = []
    fleet = rtt = pl.DataFrame(schema=RTT_SCHEMA)
    try:
        fleet = _read_fleet(fleet_file)
    except InvalidInput as error:
        problems.append(error)
    try:
        rtt = _read_rtt(rtt_file) if rtt_file is not None else rtt
    except InvalidInput as error:
        problems.append(error)
    if problems:
        raise InvalidInput([violation for problem in problems for violation in problem.violations])
    return Inventory(fleet, rtt)


def load_inventory(
    connection: Connection, inventory: Inventory, idempotency_key: str | None = None
) -> fleet_service_pb2.LoadFleetResponse:
    """Stream an inventory to the engine, with a progress bar on stderr."""
    rows = inventory.fleet.height + inventory.rtt.height
    with connection.channel() as channel, _progress() as progress:
        task = progress.add_task("loading the fleet", total=rows)
        chunks = _counted(_chunks(inventory, idempotency_key or uuid.uuid4().hex), progress, task)
        service = fleet_service_pb2_grpc.FleetServiceStub(channel)
        return service.LoadFleet(chunks, timeout=BULK_TIMEOUT_S, metadata=connection.metadata)


def _read_fleet(path: Path) -> pl.DataFrame:
    frame = read_table(path, FLEET_SCHEMA, OPTIONAL_FLEET_COLUMNS)
    check_fleet(frame, path.name)
    reject_commas(frame, path.name)
    return frame


def _read_rtt(path: Path) -> pl.DataFrame:
    frame = read_table(path, RTT_SCHEMA)
    check_rtt(frame, path.name)
    return frame


def _chunks(inventory: Inventory, idempotency_key: str) -> Iterator[fleet_service_pb2.LoadFleetRequest]:
    for index, chunk in enumerate(chain(fleet_chunks(inventory.fleet), rtt_chunks(inventory.rtt))):
        if index == 0:
            chunk.idempotency_key = idempotency_key
        yield chunk


def _counted(
    chunks: Iterator[fleet_service_pb2.LoadFleetRequest], progress: Progress, task: TaskID
) -> Iterator[fleet_service_pb2.LoadFleetRequest]:
    for chunk in chunks:
        yield chunk
        progress.advance(task, rows_of(chunk))
    progress.update(task, description="folding and storing")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=remarks(), transient=True)
