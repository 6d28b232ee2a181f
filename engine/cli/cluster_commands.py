"""`walras quote`, `deploy` and `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.connection import Connection, connects
from engine.cli.ranges import whole
from engine.cli.request_options import AskedCluster, asks_cluster

JsonFlag = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
KeyOption = Annotated[
    str | None, typer.Option(metavar="KEY", help="Same key and request: same answer, no second effect.")
]

LockFlag = Annotated[
    bool, typer.Option("--lock-extension-price", help="Lock the price for an extension, for a spread.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (quote, deploy, explain):
        app.command(rich_help_panel="Clusters")(command)


@connects
@asks_cluster
def quote(
    connection: Connection,
    asked: AskedCluster,
    ttl_s: Annotated[int | None, whole("Seconds the quote stays firm.")] = None,
    hold: Annotated[
        str | None,
        typer.Option(metavar="[SECONDS]", help="Set the capacity aside until the quote expires, for a spread."),
    ] = None,
    lock_extension_price: LockFlag = False,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Preview a placement and its firm price. Holds capacity if told to."""
    from engine.cli.cluster_calls import Firmness, quote_cluster

    firmness = Firmness.of(ttl_s, hold, lock_extension_price)
    quote_cluster(connection, asked, firmness, idempotency_key or "", json)


@connects
@asks_cluster
def deploy(
    connection: Connection,
    asked: AskedCluster,
    quote: Annotated[str | None, typer.Option(metavar="quotes/ID", help="Deploy this quote at its price.")] = None,
    lock_extension_price: LockFlag = False,
    requests: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Deploy every request of a file, each decided by itself."),
    ] = None,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Place a cluster and lease it durably; or all clusters of a file."""
    from engine.cli.cluster_calls import deploy_cluster

    if requests is not None:
        from engine.cli.batch_deploy import deploy_requests
        from engine.cli.cluster_calls import check_alone

        check_alone(asked, quote, lock_extension_price)
        raise typer.Exit(deploy_requests(connection, requests, idempotency_key, json))
    deploy_cluster(connection, asked, quote, lock_extension_price, idempotency_key, json)


@connects
@asks_cluster
def explain(connection: Connection, asked: AskedCluster, json: JsonFlag = False) -> None:
    """Say how each constraint narrows the fleet and what would make the request feasible."""
    from engine.cli.cluster_calls import explain_cluster

    explain_cluster(connection, asked, json)
