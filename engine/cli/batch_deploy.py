"""`walras deploy --requests`: every request of a file, in messages of many, each decided by itself."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import polars as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from walras.v1 import cluster_service_pb2 as pb
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub

from engine.cli.batch_view import batch_json, show_batch
from engine.cli.cluster_message import cluster_message
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.exit_codes import ExitCode
from engine.cli.request_file import NOT_THE_CALLERS
from engine.cli.screen import answers, print_json, remarks
from engine.domain.cluster_request import parse_cluster_request
from engine.domain.tables import OPTIONAL_REQUEST_COLUMNS, REQUESTS_SCHEMA, check_requests, read_table

ITEMS_MAX, MESSAGE_BYTES_MAX = 500, 60_000
"""Of a message: below what the engine takes, and not so many that its answer takes long."""
MESSAGES_AT_ONCE = 20
"""Of a stream, so that it ends well before its deadline."""
TRIES, RETRY_PAUSE_S = 3, 0.5
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Message:
    """Some of the requests, and the message that asks for them."""

    request_ids: tuple[str, ...]
    wire: pb.DeployClustersRequest


def deploy_requests(connection: Connection, path: Path, idempotency_key: str | None, as_json: bool) -> ExitCode:
    """Lease all that can be leased of a file; NO if anything was refused."""
    frame = read_table(path, REQUESTS_SCHEMA, OPTIONAL_REQUEST_COLUMNS)
    check_requests(frame, path.name)
    messages = list(messages_of(frame, idempotency_key or uuid.uuid4().hex))
    found: list[pb.DeployClustersResponse] = []
    with connection.channel() as channel, _progress() as progress:
        task = progress.add_task("deploying", total=frame.height)
        for answer in _answered(ClusterServiceStub(channel), connection, messages):
            progress.advance(task, len(messages[len(found)].request_ids))
            found.append(answer)
    outcomes = list(zip((message.request_ids for message in messages), found, strict=True))
    if as_json:
        print_json(batch_json(outcomes))
    else:
        show_batch(answers(), outcomes)
    return ExitCode.NO if any(answer.errors for answer in found) else ExitCode.DONE


def messages_of(frame: pl.DataFrame, run: str) -> Iterator[Message]:
    """The messages for the rows of a checked file; a row's key is that of the run with its place."""
    ids: list[str] = []
    wire, size = pb.DeployClustersRequest(), 0
    for place, row in enumerate(frame.iter_rows(named=True)):
        item = pb.ClusterDeployment(cluster=_cluster(row), idempotency_key=f"{run}/{place}")
        own = item.ByteSize() + 4
        if ids and (len(ids) == ITEMS_MAX or size + own > MESSAGE_BYTES_MAX):
            yield Message(tuple(ids), wire)
            ids, wire, size = [], pb.DeployClustersRequest(), 0
        wire.items.append(item)
        ids.append(row["request_id"])
        size += own
    if ids:
        yield Message(tuple(ids), wire)


def _cluster(row: dict[str, Any]) -> Any:
    given = {name: value for name, value in row.items() if value is not None and name not in NOT_THE_CALLERS}
    return cluster_message(parse_cluster_request(given))


def _answered(
    service: ClusterServiceStub, connection: Connection, messages: Sequence[Message]
) -> Iterator[pb.DeployClustersResponse]:
    """The answers in order. What broke off is asked for again under its keys, which makes repeating safe."""
    done, failures = 0, 0
    while done < len(messages):
        part = iter([message.wire for message in messages[done : done + MESSAGES_AT_ONCE]])
        try:
            for answer in service.DeployClusters(part, timeout=CALL_TIMEOUT_S, metadata=connection.metadata):
                done, failures = done + 1, 0
                yield answer
        except grpc.RpcError as error:
            failures += 1
            if not isinstance(error, grpc.Call) or error.code() not in AGAIN or failures == TRIES:
                raise
            time.sleep(RETRY_PAUSE_S)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=remarks(), transient=True)
