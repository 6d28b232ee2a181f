"""`walras fleet load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.cluster_commands import JsonFlag, KeyOption
from engine.cli.connection import Connection, connects

if TYPE_CHECKING:
    from walras.v1 import fleet_service_pb2

fleet_app = typer.Typer(no_args_is_help=True, help="The inventory of a running engine.")


@fleet_app.callback()
def fleet() -> None:
    """Keep `load` a command of its own, as there is only one."""


@fleet_app.command()
@connects
def load(
    fleet: Annotated[Path, typer.Argument(metavar="FLEET.parquet", help="A row a node.")],
    connection: Connection,
    rtt: Annotated[
        Path | None, typer.Option(metavar="RTT.parquet", help="A row a measured pair of sites.")
    ] = None,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Load nodes: new ones are added, known ones updated, all or none."""
    from engine.cli.fleet_load import load_inventory, read_inventory
    from engine.cli.json_reply import plain
    from engine.cli.screen import answers, print_json

    result = load_inventory(connection, read_inventory(fleet, rtt), idempotency_key)
    if json:
        print_json(plain(result))
    else:
        answers().print(load_line(result))


def load_line(result: fleet_service_pb2.LoadFleetResponse) -> str:
    """What a load did, in one line."""
    return (
        f"{result.nodes_added:,} nodes added, {result.nodes_updated:,} updated, {result.rtt_pairs:,} measured "
        f"pairs; the fleet has {result.gpus_registered:,} GPUs in {result.pools:,} pools "
        f"(version {result.fleet_version:,})"
    )
