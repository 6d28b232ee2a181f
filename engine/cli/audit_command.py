"""`walras audit`: who did what to which object under which credential."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA_DIR = Path("walras-data")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Engine")(audit)


def _filter(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=text, metavar="TEXT")
    return option


def audit(
    data_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the engine keeps its data.")
    ] = DEFAULT_DATA_DIR,
    account: Annotated[str | None, _filter("Acts of this account: a tenant, supplier:ID, operator:SUB.")] = None,
    credential: Annotated[str | None, _filter("Acts under this credential.")] = None,
    object_name: Annotated[
        str | None, typer.Option("--object", help="Acts on this object.", metavar="TEXT")
    ] = None,
    method: Annotated[str | None, _filter("Calls whose method contains this.")] = None,
    since_us: Annotated[int, typer.Option(metavar="MICROSECONDS", help="Acts from this time on.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the audit log; every line is proven to follow the one before, exit 2 at the first that does not."""
    from engine.cli.audit_view import Wanted, show_acts

    show_acts(data_dir, Wanted(account, credential, object_name, method, since_us), as_json=json)
