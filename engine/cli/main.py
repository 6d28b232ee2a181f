"""The `walras` command: every subcommand, and the one place where errors become exit codes."""

from __future__ import annotations

import signal
import sys

import typer

from engine.cli import (
    audit_command,
    backtest_command,
    cluster_commands,
    demo_command,
    engine_commands,
    market_commands,
    replay_command,
    world_command,
)
from engine.cli.bare_options import with_bare_values
from engine.cli.exit_codes import ExitCode
from engine.cli.fleet_commands import fleet_app
from engine.cli.journal_commands import journal_app
from engine.cli.lease_commands import lease_app
from engine.cli.ledger_commands import ledger_app
from engine.cli.order_commands import order_app
from engine.cli.plan_commands import plan_app
from engine.cli.price_commands import price_app
from engine.cli.process import check_streams, ended_by, lasting_streams
from engine.cli.request_options import option_name
from engine.cli.token_commands import token_app

REDIRECTS_MAX = 3

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
    audit_command,
    cluster_commands,
    market_commands,
    backtest_command,
    replay_command,
    world_command,
    demo_command,
):
    commands.add_to(app)
app.add_typer(plan_app, name="plan", rich_help_panel="Planning")
app.add_typer(lease_app, name="lease", rich_help_panel="Clusters")
app.add_typer(order_app, name="order", rich_help_panel="Clusters")
app.add_typer(price_app, name="price", rich_help_panel="Market")
app.add_typer(ledger_app, name="ledger", rich_help_panel="Market")
app.add_typer(fleet_app, name="fleet", rich_help_panel="Engine")
app.add_typer(journal_app, name="journal", rich_help_panel="Engine")
app.add_typer(token_app, name="token", rich_help_panel="Engine")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code. Arguments default to those of the process."""
    given = with_bare_values(sys.argv[1:] if arguments is None else arguments)
    with lasting_streams():
        try:
            check_streams()
            with ended_by(signal.SIGTERM):
                return _run_where_the_leader_is(given)
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
        except Exception as error:
            from engine.cli.failures import report

            return report(error)


def _run_where_the_leader_is(given: list[str]) -> int:
    """Run a command, again at another engine if the one that was asked did nothing but name its leader."""
    for _ in range(REDIRECTS_MAX):
        try:
            return _run(given)
        except Exception as error:
            from engine.cli.failures import leader_named_by

            leader = leader_named_by(error)
            if not leader:
                raise
            given = [*given, "--target", leader]
    return _run(given)


def _run(given: list[str]) -> int:
    try:
        app(given, prog_name="walras")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.DONE
    return ExitCode.DONE
