"""`walras serve`, `warmup` and `journal verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.connection import DEFAULT_LISTEN
from engine.cli.security_options import secures

journal_app = typer.Typer(no_args_is_help=True, help="The journal of an engine that is not running.")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (serve, warmup):
        app.command(rich_help_panel="Engine")(command)


DataDirOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the journal is kept; walras-data if nothing says."),
]


ListenOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help=f"{DEFAULT_LISTEN} if nothing says; port 0: any free one."),
]
ConfigOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Settings in TOML; the command line goes first.")
]
DevFlag = Annotated[bool | None, typer.Option("--dev", help="Loopback only; the tenant is whom the caller says.")]


@secures
def serve(
    listen: ListenOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    dev: DevFlag = None,
    *,
    security: dict[str, Any],
) -> None:
    """Start the engine. stdout is one line, `listening HOST:PORT`, once it takes calls; SIGTERM drains it."""
    from engine.cli.serving import serve_until_told

    raise typer.Exit(serve_until_told(listen, data_dir, config, dev, security))


def warmup() -> None:
    """Compile the solver's kernels, so that the next start is fast."""
    from engine.cli.screen import remarks
    from solvers import warmup
    from solvers.planning import warmup as planning_warmup

    with remarks().status("compiling the solver's kernels"):
        warmup.warm_up()
        planning_warmup.warm_up()


@journal_app.callback()
def journal() -> None:
    """Keep `verify` a command of its own, as there is only one."""


@journal_app.command()
def verify(data_dir: DataDirOption = None) -> None:
    """Recompute the hash chain and the state from the journal; exit 0 only if all holds."""
    from engine.cli.journal_check import check_journal

    raise typer.Exit(check_journal(data_dir))
