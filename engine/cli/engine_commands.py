"""`walras serve` and `warmup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.connection import DEFAULT_LISTEN
from engine.cli.security_options import secures


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (serve, warmup):
        app.command(rich_help_panel="Engine")(command)


DataDirOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the journal is kept; walras-data if nothing says."),
]

DatabaseUrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The journal in PostgreSQL instead, which replicas share: postgresql://HOST/DATABASE.",
    ),
]
AdvertiseOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where callers of other replicas find this one while it leads."),
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
    database_url: DatabaseUrlOption = None,
    advertise: AdvertiseOption = None,
    config: ConfigOption = None,
    dev: DevFlag = None,
    *,
    security: dict[str, Any],
) -> None:
    """Start the engine. stdout is one line, `listening HOST:PORT`, once it takes calls; SIGTERM drains it."""
    from engine.cli.serving import serve_until_told

    check_one_place(data_dir, database_url)
    said = {"listen": listen, "data_dir": data_dir, "database_url": database_url, "advertise": advertise}
    raise typer.Exit(serve_until_told(config, dev=dev, **said, **security))


def check_one_place(data_dir: Path | None, database_url: str | None) -> None:
    """InvalidInput if the command line names two journals."""
    from engine.domain.errors import InvalidInput, Violation

    if data_dir is not None and database_url is not None:
        raise InvalidInput(
            [Violation("database-url", "names the journal, and so does data-dir; give one of them")]
        )


def warmup() -> None:
    """Compile the solver's kernels, so that the next start is fast."""
    from engine.cli.screen import remarks
    from solvers import warmup
    from solvers.planning import warmup as planning_warmup

    with remarks().status("compiling the solver's kernels"):
        warmup.warm_up()
        planning_warmup.warm_up()
