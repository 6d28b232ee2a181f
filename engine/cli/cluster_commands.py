"""`walras quote`, `deploy` and `explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.connection import Connection, connects
from engine.cli.request_options import AskedCluster, asks_cluster

JsonFlag = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
KeyOption = Annotated[
    str | None, typer.Option(metavar="KEY", help="Same key and request: same answer, no second effect.")
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
    ttl_s: Annotated[int | None, typer.Option(help="Seconds the quote stays firm.")] = None,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Preview a placement and its firm price. Holds no capacity."""
    from engine.cli.cluster_calls import quote_cluster

    quote_cluster(connection, asked, ttl_s, idempotency_key or "", json)


@connects
@asks_cluster
def deploy(
    connection: Connection,
    asked: AskedCluster,
    quote: Annotated[str | None, typer.Option(metavar="quotes/ID", help="Deploy this quote at its price.")] = None,
    idempotency_key: KeyOption = None,
    json: JsonFlag = False,
) -> None:
    """Place a cluster and lease it durably."""
    from engine.cli.cluster_calls import deploy_cluster

    deploy_cluster(connection, asked, quote, idempotency_key, json)


@connects
@asks_cluster
def explain(connection: Connection, asked: AskedCluster, json: JsonFlag = False) -> None:
    """Say how each constraint narrows the fleet and what would make the request feasible."""
    from engine.cli.cluster_calls import explain_cluster

    explain_cluster(connection, asked, json)
