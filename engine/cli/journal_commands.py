"""`walras journal`: proving, copying and inspecting a journal, of an engine that runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.cli.engine_commands import DatabaseUrlOption, DataDirOption

if TYPE_CHECKING:
    from engine.journal import Place

journal_app = typer.Typer(no_args_is_help=True, help="The journal, whether an engine runs on it or not.")


@journal_app.callback()
def journal() -> None:
    """Keep each command a command of its own."""


@journal_app.command()
def verify(data_dir: DataDirOption = None, database_url: DatabaseUrlOption = None) -> None:
    """Recompute the hash chain and the state from the journal; exit 0 only if all holds."""
    from engine.cli.journal_check import check_journal

    raise typer.Exit(check_journal(place_of(data_dir, database_url)))


def place_of(data_dir: Path | None, database_url: str | None) -> Place:
    """Where the journal is; a directory on the command line goes before a URL of the environment."""
    from engine.service.options import ServerOptions

    return data_dir or database_url or ServerOptions().data_dir
