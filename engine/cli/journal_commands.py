"""`walras journal`: proving, copying and inspecting a journal, of an engine that runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.engine_commands import DatabaseUrlOption, DataDirOption, check_one_place

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


@journal_app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Made; must not be there.")],
    data_dir: DataDirOption = None,
    database_url: DatabaseUrlOption = None,
) -> None:
    """Copy the journal as it is now into a file; an engine may run on it. Proves the chain on the way."""
    from engine.cli.journal_copies import copy_to

    raise typer.Exit(copy_to(file, place_of(data_dir, database_url)))


@journal_app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Made by `walras journal backup`.")],
    data_dir: DataDirOption = None,
    database_url: DatabaseUrlOption = None,
) -> None:
    """Make a journal where there is none from a copy, whichever database that was of. All of it, or nothing."""
    from engine.cli.journal_copies import copy_from

    raise typer.Exit(copy_from(file, place_of(data_dir, database_url)))


def place_of(data_dir: Path | None, database_url: str | None) -> Place:
    """Where the journal is."""
    from engine.service.options import ServerOptions

    check_one_place(data_dir, database_url)
    return data_dir or database_url or ServerOptions().data_dir
