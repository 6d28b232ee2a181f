"""`walras price`, `price estimate`, `price indicative` and `price curve`."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag
from engine.cli.connection import Connection, connects
from engine.cli.price_options import MarketChoice, chooses_markets, chooses_place
from engine.cli.ranges import hours_of, whole
from engine.cli.request_options import AskedCluster, asks_cluster

price_app = typer.Typer(help="Prices of all markets: posted, clearing, bounds, health, and where they come from.")


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A GPU model.")]


@price_app.callback(invoke_without_command=True)
@connects
@chooses_markets
def price(
    context: typer.Context,
    connection: Connection,
    choice: MarketChoice,
    history: Annotated[bool, typer.Option("--history", help="Past prices, a row an epoch.")] = False,
    back_hours: Annotated[float, hours_of("How far back history and sparkline go.")] = 24.0,
    watch: Annotated[bool, typer.Option("--watch", help="Follow every new snapshot until interrupted.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show the prices of all markets, or of those chosen."""
    if context.invoked_subcommand is not None:
        return
    from engine.cli.price_calls import list_prices
    from engine.cli.price_watch import watch_prices

    if watch:
        watch_prices(connection, choice, back_hours, json)
    else:
        list_prices(connection, choice, back_hours, history, json)


@price_app.command()
@connects
@chooses_place
def estimate(
    gpu_model: ModelArgument,
    connection: Connection,
    choice: MarketChoice,
    gpu_count: Annotated[int, whole("How many GPUs.", "--gpu-count", "--gpus")] = 1,
    hours: Annotated[float, hours_of("For how long.")] = 1.0,
    hold_s: Annotated[int | None, whole("Seconds a quote would hold the capacity.")] = None,
    json: JsonFlag = False,
) -> None:
    """Say what GPUs cost for some hours by the forward curve, in every chosen market; the cheapest first."""
    from engine.cli.price_estimate import estimate_cost

    estimate_cost(
        connection, MarketChoice(gpu_model, choice.region, choice.security_tier), gpu_count, hours, hold_s, json
    )


@price_app.command()
@connects
@asks_cluster
def indicative(
    connection: Connection,
    asked: AskedCluster,
    deadline_ms: Annotated[int | None, whole("Longest time the answer may take.")] = None,
    json: JsonFlag = False,
) -> None:
    """Say what a cluster would cost now, without commitment, and from which price limit on it is feasible."""
    from engine.cli.price_indicative import show_indicative

    show_indicative(connection, asked, deadline_ms, json)


@price_app.command()
@connects
@chooses_place
def curve(gpu_model: ModelArgument, connection: Connection, choice: MarketChoice, json: JsonFlag = False) -> None:
    """Show supply and demand of one market as steps."""
    from engine.cli.price_curve import show_curve

    show_curve(connection, MarketChoice(gpu_model, choice.region, choice.security_tier), json)
