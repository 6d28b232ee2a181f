"""The `walras` command: every subcommand, and the one place where errors become exit codes."""

from __future__ import annotations

import sys

import typer

from engine.cli import (
    backtest_command,
    cluster_commands,
    demo_command,
    engine_commands,
    market_commands,
    world_command,
)
from engine.cli.bare_options import with_bare_values
from engine.cli.exit_codes import ExitCode
from engine.cli.fleet_commands import fleet_app
from engine.cli.lease_commands import lease_app
from engine.cli.order_commands import order_app
from engine.cli.plan_commands import plan_app
from engine.cli.price_commands import price_app
from engine.cli.request_options import option_name

app = typer.Typer(
    name="walras",
    help="A scheduling and pricing engine for GPU networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": option_name},
)
for commands in (
    engine_commands,
    cluster_commands,
    market_commands,
    backtest_command,
    world_command,
    demo_command,
):
    commands.add_to(app)
app.add_typer(plan_app, name="plan", rich_help_panel="Planning")
app.add_typer(lease_app, name="lease", rich_help_panel="Clusters")
app.add_typer(order_app, name="order", rich_help_panel="Clusters")
app.add_typer(price_app, name="price", rich_help_panel="Market")
app.add_typer(fleet_app, name="fleet", rich_help_panel="Engine")
app.add_typer(engine_commands.journal_app, name="journal", rich_help_panel="Engine")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code. Arguments default to those of the process."""
    given = with_bare_values(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given, prog_name="walras")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.DONE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        from engine.cli.failures import report

        return report(error)
    return ExitCode.DONE
