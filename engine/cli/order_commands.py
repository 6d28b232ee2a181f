"""`walras order place|get|list|cancel|watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag, KeyOption
from engine.cli.connection import Connection, connects
from engine.cli.ranges import INT32_MAX, whole
from engine.cli.request_options import AskedCluster, asks_cluster

OrderArgument = Annotated[str, typer.Argument(metavar="ID", help="An order id, with or without `orders/`.")]
AfterOption = Annotated[int | None, whole("Begin after this version; without it, now.", metavar="VERSION")]

order_app = typer.Typer(no_args_is_help=True, help="Standing orders of the calling tenant.")


@order_app.command()
@connects
@asks_cluster
def place(
    connection: Connection,
    asked: AskedCluster,
    ttl_s: Annotated[int | None, whole("Seconds the order waits; a day if absent.")] = None,
    priority: Annotated[int, whole("0 to 100: a point is a cent of surplus per GPU-hour.", most=INT32_MAX)] = 0,
    once: Annotated[bool, typer.Option("--once", help="One try decides.")] = False,
    retry_on_loss_s: Annotated[int, whole("Seconds that an order for the rest waits if the lease is lost.")] = 0,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Let a cluster request wait for GPUs within its price limit, `--max-price-micro-usd-per-gpu-hour`."""
    from engine.cli.order_calls import Wait, place_order

    place_order(connection, asked, Wait(ttl_s, priority, once, retry_on_loss_s), idempotency_key, json)


@order_app.command()
@connects
def get(order: OrderArgument, connection: Connection, json: JsonFlag = False) -> None:
    """Show one order."""
    from engine.cli.order_calls import get_order

    get_order(connection, order, json)


@order_app.command(name="list")
@connects
def list_(
    connection: Connection,
    show_ended: Annotated[bool, typer.Option("--show-ended", help="Orders that are over too.")] = False,
    json: JsonFlag = False,
) -> None:
    """List orders, oldest first."""
    from engine.cli.order_calls import list_orders

    list_orders(connection, show_ended, json)


@order_app.command()
@connects
def cancel(
    order: OrderArgument, connection: Connection, idempotency_key: KeyOption = None, json: JsonFlag = False
) -> None:
    """End an order now."""
    from engine.cli.order_calls import cancel_order

    cancel_order(connection, order, idempotency_key, json)


@order_app.command()
@connects
def watch(connection: Connection, after_version: AfterOption = None, json: JsonFlag = False) -> None:
    """Follow every change of orders until interrupted."""
    from engine.cli.change_watch import watch_orders

    watch_orders(connection, after_version, json)
