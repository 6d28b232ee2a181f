"""`walras lease get|list|nodes|release|extend|shrink|watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag, KeyOption
from engine.cli.connection import Connection, connects
from engine.cli.order_commands import AfterOption
from engine.cli.ranges import hours_of, whole

LeaseArgument = Annotated[str, typer.Argument(metavar="ID", help="A lease id, with or without `leases/`.")]

lease_app = typer.Typer(no_args_is_help=True, help="The leases of the calling tenant.")


@lease_app.command()
@connects
def get(lease: LeaseArgument, connection: Connection, json: JsonFlag = False) -> None:
    """Show one lease."""
    from engine.cli.lease_calls import get_lease

    get_lease(connection, lease, json)


@lease_app.command(name="list")
@connects
def list_(
    connection: Connection,
    show_ended: Annotated[bool, typer.Option("--show-ended", help="Ended leases too.")] = False,
    json: JsonFlag = False,
) -> None:
    """List leases, oldest first."""
    from engine.cli.lease_calls import list_leases

    list_leases(connection, show_ended, json)


@lease_app.command()
@connects
def nodes(lease: LeaseArgument, connection: Connection, json: JsonFlag = False) -> None:
    """List the nodes of a lease, read page by page."""
    from engine.cli.lease_calls import list_nodes

    list_nodes(connection, lease, json)


@lease_app.command()
@connects
def release(
    lease: LeaseArgument, connection: Connection, idempotency_key: KeyOption = None, json: JsonFlag = False
) -> None:
    """End a lease now."""
    from engine.cli.lease_calls import release_lease

    release_lease(connection, lease, idempotency_key, json)


@lease_app.command()
@connects
def watch(connection: Connection, after_version: AfterOption = None, json: JsonFlag = False) -> None:
    """Follow every change of leases until interrupted."""
    from engine.cli.change_watch import watch_leases

    watch_leases(connection, after_version, json)


@lease_app.command()
@connects
def extend(
    lease: LeaseArgument,
    connection: Connection,
    hours: Annotated[float | None, hours_of("How much longer, in hours.")] = None,
    duration_s: Annotated[int | None, whole("How much longer, in seconds.")] = None,
    max_amount_micro_usd: Annotated[
        int | None, whole("Refuse if the added time costs more than this, micro-USD.")
    ] = None,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Let a lease run longer, at the current forward curve or at its locked price."""
    from engine.cli.lease_calls import extend_lease
    from engine.cli.request_options import seconds_of

    extend_lease(connection, lease, seconds_of(hours, duration_s), max_amount_micro_usd, idempotency_key, json)


@lease_app.command()
@connects
def shrink(
    lease: LeaseArgument,
    connection: Connection,
    replicas: Annotated[int, whole("How many replicas (of gpus_per_node GPUs) to give back.")],
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Give back a part of a lease: the dearest replicas first."""
    from engine.cli.lease_calls import shrink_lease

    shrink_lease(connection, lease, replicas, idempotency_key, json)
