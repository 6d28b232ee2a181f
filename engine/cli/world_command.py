"""`walras world`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag

DATA_VARIABLE = "WALRAS_DATA"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Data")(world)


def world(
    gpus: Annotated[int, typer.Option(help="GPUs of the fleet.")],
    requests: Annotated[int, typer.Option(help="Cluster requests.")],
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the three files go.")],
    real: Annotated[
        str | None,
        typer.Option(metavar="[DATA_DIR]", help=f"Build on public data there, or in ${DATA_VARIABLE}."),
    ] = None,
    load: Annotated[float | None, typer.Option(help="GPUs requested over GPUs free.")] = None,
    json: JsonFlag = False,
) -> None:
    """Write fleet.parquet, rtt.parquet and requests.parquet of a seeded or real-data world."""
    from engine.cli.world_files import write_world_files

    write_world_files(out, gpus, requests, seed, real, load, json)
