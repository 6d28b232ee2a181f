"""`walras order watch` and `walras lease watch`: a line a change; a stream that the engine ends is resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from walras.v1 import (
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    order_service_pb2,
    order_service_pb2_grpc,
)

from engine.cli.amounts import usd
from engine.cli.connection import Connection
from engine.cli.json_reply import lease_json, plain
from engine.cli.lease_calls import lease_state
from engine.cli.order_calls import order_state
from engine.cli.process import is_heard
from engine.cli.screen import answers, print_json

RESUME_S = 1.0
"""Pause before a stream that the engine ended is opened again."""


def watch_orders(connection: Connection, after_version: int | None, as_json: bool) -> None:
    """Show changes of orders until interrupted."""
    with connection.channel() as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        call = order_service_pb2.WatchOrdersRequest(after_version=after_version)
        for change in changes(stub.WatchOrders, call, connection):
            order = change.order if change.HasField("order") else None
            if as_json:
                print_json({"version": change.version, "order": plain(order) if order is not None else None})
            elif order is not None:
                lease = f"  {order.lease}" if order.lease else ""
                answers().print(f"{change.version}  {order.name}  {order_state(order)}{lease}")


def watch_leases(connection: Connection, after_version: int | None, as_json: bool) -> None:
    """Show changes of leases until interrupted."""
    with connection.channel() as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        call = cluster_service_pb2.WatchLeasesRequest(after_version=after_version)
        for change in changes(stub.WatchLeases, call, connection):
            lease = change.lease if change.HasField("lease") else None
            if as_json:
                print_json({"version": change.version, "lease": lease_json(lease) if lease is not None else None})
            elif lease is not None:
                total = usd(lease.price.total_micro_usd)
                line = f"{change.version}  {lease.name}  {lease_state(lease)}  {lease.gpu_count:,} GPUs  {total}"
                answers().print(line)


def changes(method: Callable[..., Iterator[Any]], call: Any, connection: Connection) -> Iterator[Any]:
    """All changes, one stream after the other; the versions without a change only the first time.

    Ends when nobody reads them any more.
    """
    begun = False
    while True:
        for change in method(call, metadata=connection.metadata):
            call.after_version = change.version
            if not begun or len(change.ListFields()) > 1:
                yield change
                if not is_heard():
                    return
            begun = True
        time.sleep(RESUME_S)
