"""`walras ledger balance|statement|deposit|withdraw|verify`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag, KeyOption
from engine.cli.connection import Connection, connects
from engine.cli.engine_commands import DataDirOption

ledger_app = typer.Typer(no_args_is_help=True, help="The money of the calling tenant or supplier.")

AmountArgument = Annotated[
    str, typer.Argument(metavar="USD", help="Dollars, to the micro-dollar: 100 or 0.000001.")
]
SupplierFlag = Annotated[bool, typer.Option("--supplier", help="Of the supplier of this name, not of the tenant.")]
OfflineOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The journal of an engine that is not running; by its operator.")
]
TimeOption = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], metavar="TIME", help="UTC, as 2026-01-31[T23:59:59]."),
]


@ledger_app.command()
@connects
def balance(connection: Connection, supplier: SupplierFlag = False, json: JsonFlag = False) -> None:
    """Show what can be spent, what is set aside for leases, or what a supplier has earned."""
    from engine.cli.ledger_calls import show_balance

    show_balance(connection, supplier, json)


@ledger_app.command()
@connects
def statement(
    connection: Connection,
    supplier: SupplierFlag = False,
    start: TimeOption = None,
    end: TimeOption = None,
    json: JsonFlag = False,
) -> None:
    """List everything that changed the account, oldest first."""
    from engine.cli.ledger_calls import show_statement

    show_statement(connection, supplier, start, end, json)


@ledger_app.command()
@connects
def deposit(
    usd: AmountArgument,
    connection: Connection,
    data_dir: OfflineOption = None,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Put money into the account of --tenant: by an operator, in development mode, or into a directory."""
    from engine.cli.ledger_calls import deposit_funds

    deposit_funds(connection, usd, data_dir, idempotency_key, json)


@ledger_app.command()
@connects
def withdraw(
    usd: AmountArgument,
    connection: Connection,
    data_dir: OfflineOption = None,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Take money out of the tenant's account, likewise; credit cannot be taken out."""
    from engine.cli.ledger_calls import withdraw_funds

    withdraw_funds(connection, usd, data_dir, idempotency_key, json)


@ledger_app.command()
def verify(data_dir: DataDirOption = None, json: JsonFlag = False) -> None:
    """Recompute all books from the journal; exit 0 only if everything holds, else every violation is listed."""
    from engine.cli.ledger_verification import verify_books

    raise typer.Exit(verify_books(data_dir, json))
