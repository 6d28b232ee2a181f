"""`walras price indicative`: what a cluster would cost now, without commitment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from walras.v1 import oracle_service_pb2 as pb
from walras.v1 import oracle_service_pb2_grpc

from engine.cli.amounts import usd_per_gpu_hour
from engine.cli.cluster_message import checked_request, cluster_message
from engine.cli.cluster_view import show_price, show_request
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import plain
from engine.cli.screen import answers, print_json
from engine.cli.text_table import pair_table

if TYPE_CHECKING:
    from engine.cli.request_options import AskedCluster


def show_indicative(connection: Connection, asked: AskedCluster, deadline_ms: int | None, as_json: bool) -> None:
    """Show the answer; that it cannot be scheduled is an answer, too."""
    request = checked_request(asked.fields(), asked.source)
    call = pb.GetIndicativePriceRequest(cluster=cluster_message(request), deadline_ms=deadline_ms)
    with connection.channel() as channel:
        service = oracle_service_pb2_grpc.OracleServiceStub(channel)
        found = service.GetIndicativePrice(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(plain(found))
        return
    console = answers()
    show_request(console, request)
    console.print(pair_table("indicative", indicative_rows(found)))
    if found.schedulable:
        show_price(console, found.price)


def indicative_rows(found: pb.IndicativePrice) -> list[tuple[str, str]]:
    """What was found, name by name."""
    rows = [
        ("evaluated", "yes" if found.evaluated else "no"),
        ("schedulable", "yes" if found.schedulable else "no"),
        ("reason", found.reason or "-"),
        ("detail", found.detail),
    ]
    if found.HasField("feasible_from_micro_usd_per_gpu_hour"):
        least = usd_per_gpu_hour(found.feasible_from_micro_usd_per_gpu_hour)
        rows.append(("feasible from", f"{least} per GPU-hour"))
    return rows
