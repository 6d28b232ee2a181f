"""`walras top`."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag
from engine.cli.connection import Connection, connects


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Market")(top)


@connects
def top(
    connection: Connection,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until interrupted.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show what the fleet is doing, on one screen."""
    from engine.cli.top_screen import show_top

    show_top(connection, watch, json)
