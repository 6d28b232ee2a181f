"""The calls behind `walras lease`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from walras.v1 import cluster_service_pb2, cluster_service_pb2_grpc

from engine.cli.amounts import moment, usd, usd_per_gpu_hour
from engine.cli.cluster_view import charged_line, show_lease, total_line
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import lease_json, placement_rows
from engine.cli.screen import answers, print_json
from engine.cli.text_table import Row, text_table
from engine.domain.errors import InvalidInput, Violation

LEASE_PREFIX = "leases/"
PAGE_SIZE = 1_000
STATE_PREFIX = "STATE_"


def get_lease(connection: Connection, lease_id: str, as_json: bool) -> None:
    """Show one lease."""
    call = cluster_service_pb2.GetLeaseRequest(name=_lease_name(lease_id))
    with connection.channel() as channel:
        service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        lease = service.GetLease(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(lease_json(lease))
    else:
        show_lease(answers(), lease)


def list_leases(connection: Connection, show_ended: bool, as_json: bool) -> None:
    """Show all leases."""
    with connection.channel() as channel:
        leases = list(all_leases(channel, connection, show_ended))
    if as_json:
        print_json({"leases": [lease_json(lease) for lease in leases]})
        return
    gpus = sum(lease.gpu_count for lease in leases)
    answers().print(text_table(f"{len(leases):,} leases, {gpus:,} GPUs", *HEADINGS, lease_rows(leases)))


def list_nodes(connection: Connection, lease_id: str, as_json: bool) -> None:
    """Show where one lease runs."""
    with connection.channel() as channel:
        rows = list(_node_rows(channel, connection, _lease_name(lease_id)))
    if as_json:
        print_json({"placements": rows})
        return
    shown: list[Row] = [
        (row["node_id"], f"{row['gpus']:,}", usd_per_gpu_hour(row["price_micro_usd_per_gpu_hour"])) for row in rows
    ]
    gpus = sum(row["gpus"] for row in rows)
    answers().print(text_table(f"{gpus:,} GPUs", ("node",), ("GPUs", "per GPU-hour"), shown))


def _node_rows(channel: grpc.Channel, connection: Connection, name: str) -> Iterator[dict[str, Any]]:
    """Rows of all pages. InvalidInput if the lease changes between two of them."""
    service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
    call, epoch = cluster_service_pb2.ListLeaseNodesRequest(name=name, page_size=PAGE_SIZE), 0
    while True:
        page = service.ListLeaseNodes(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
        if epoch not in (0, page.fencing_epoch):
            raise InvalidInput([Violation(name, "has changed while it was listed: list it again")])
        epoch = page.fencing_epoch
        yield from placement_rows(page.placement)
        if not page.next_page_token:
            return
        call.page_token = page.next_page_token


def release_lease(connection: Connection, lease_id: str, idempotency_key: str | None, as_json: bool) -> None:
    """End one lease."""
    call = cluster_service_pb2.ReleaseLeaseRequest(
        name=_lease_name(lease_id), idempotency_key=idempotency_key or uuid.uuid4().hex
    )
    with connection.channel() as channel:
        service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        lease = service.ReleaseLease(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(lease_json(lease))
    else:
        answers().print(f"{lease.name}: {lease.end_reason or 'released'}, {lease.gpu_count:,} GPUs are free again")
        answers().print(charged_line(lease))


def extend_lease(
    connection: Connection,
    lease_id: str,
    duration_s: int,
    max_amount_micro_usd: int | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Let one lease run longer."""
    call = cluster_service_pb2.ExtendLeaseRequest(
        name=_lease_name(lease_id),
        duration_s=duration_s,
        max_amount_micro_usd=max_amount_micro_usd,
        idempotency_key=idempotency_key or uuid.uuid4().hex,
    )
    with connection.channel() as channel:
        service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        lease = service.ExtendLease(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(lease_json(lease))
    else:
        answers().print(f"{lease.name}: runs until {moment(lease.end_time_us)}; {total_line(lease.price)}")


def shrink_lease(
    connection: Connection, lease_id: str, replicas: int, idempotency_key: str | None, as_json: bool
) -> None:
    """Give back a part of one lease."""
    call = cluster_service_pb2.ShrinkLeaseRequest(
        name=_lease_name(lease_id), replicas=replicas, idempotency_key=idempotency_key or uuid.uuid4().hex
    )
    with connection.channel() as channel:
        service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        lease = service.ShrinkLease(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(lease_json(lease))
    else:
        nodes = len(lease.placement.node_ids)
        answers().print(f"{lease.name}: keeps {lease.gpu_count:,} GPUs on {nodes:,} nodes")
        answers().print(charged_line(lease))


def all_leases(
    channel: grpc.Channel, connection: Connection, show_ended: bool = False
) -> Iterator[cluster_service_pb2.Lease]:
    """Leases of all pages, oldest first, without placements."""
    service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
    token = ""
    while True:
        call = cluster_service_pb2.ListLeasesRequest(page_size=PAGE_SIZE, page_token=token, show_ended=show_ended)
        page = service.ListLeases(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
        yield from page.leases
        if not (token := page.next_page_token):
            return


HEADINGS: tuple[Row, Row] = (("lease", "request", "state", "start", "end"), ("GPUs", "per hour", "total"))


def lease_rows(leases: Iterable[cluster_service_pb2.Lease]) -> list[Row]:
    """A row a lease, below HEADINGS."""
    return [
        (
            lease.lease_id,
            lease.request_id,
            lease_state(lease),
            moment(lease.start_time_us),
            moment(lease.end_time_us),
            f"{lease.gpu_count:,}",
            usd(lease.price.rate_micro_usd_per_hour),
            usd(lease.price.total_micro_usd),
        )
        for lease in leases
    ]


def lease_state(lease: cluster_service_pb2.Lease) -> str:
    """The state in a word, with the reason why it ended."""
    name = cluster_service_pb2.Lease.State.Name(lease.state).removeprefix(STATE_PREFIX)
    return f"{name} ({lease.end_reason})" if lease.end_reason else name


def _lease_name(lease_id: str) -> str:
    return lease_id if lease_id.startswith(LEASE_PREFIX) else LEASE_PREFIX + lease_id
