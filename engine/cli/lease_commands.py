"""`walras lease get|list|release|watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag, KeyOption
from engine.cli.connection import Connection, connects
from engine.cli.order_commands import AfterOption

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
