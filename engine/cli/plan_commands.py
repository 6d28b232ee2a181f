"""`walras plan`, `plan check` and `plan show`."""

from __future__ import annotations

import atexit
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.cluster_commands import JsonFlag

plan_app = typer.Typer(help="Joint planning of a whole queue: files in, a certified plan out, no engine needed.")

PlanDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="What `walras plan --out` wrote.")]


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No rounds of the garbage collector: over all that Numba imports they take 0.2 s; plans leave few cycles.

    Nor at the end of the process, when the interpreter would look for them once more.
    """
    atexit.register(gc.freeze)
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@plan_app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    fleet: Annotated[Path | None, typer.Option(metavar="FLEET.parquet", help="A row a node.")] = None,
    requests: Annotated[
        Path | None, typer.Option(metavar="REQUESTS.parquet", help="A row a cluster request.")
    ] = None,
    rtt: Annotated[
        Path | None, typer.Option(metavar="RTT.parquet", help="A row a measured pair of sites.")
    ] = None,
    placements: Annotated[
        Path | None, typer.Option(metavar="PLACEMENTS.parquet", help="What runs now, a row per request and node.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the plan goes.")] = None,
    last: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An earlier plan to start from: faster after small changes.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From start to written plan; the best so far is written."),
    ] = None,
    work_limit: Annotated[
        int | None, typer.Option(metavar="ROUNDS", help="Rounds of improvement: the same plan on every machine.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same files, work limit and seed: same plan.")] = 0,
    move_cost_micro_usd: Annotated[int, typer.Option(help="Of moving one running GPU.")] = 100_000,
    displaced_bonus_micro_usd: Annotated[
        int, typer.Option(help="Per GPU-hour, for work whose node went away.")
    ] = 1_000_000,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Solve on this Ray cluster.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes of this machine; its cores if not given.")] = None,
    json: JsonFlag = False,
) -> None:
    """Find the best placement of a queue on a fleet that can be proven, and write it with its certificate."""
    began_s = time.perf_counter()
    if context.invoked_subcommand is not None:
        return
    options = {
        "time_limit_s": time_limit,
        "work_limit": work_limit,
        "seed": seed,
        "move_cost_micro_usd": move_cost_micro_usd,
        "displaced_bonus_micro_usd": displaced_bonus_micro_usd,
        "ray": ray,
        "workers": workers,
    }
    with collector_at_rest():
        from engine.cli.plan_run import PlanArguments, run_plan

        run_plan(PlanArguments(fleet, requests, rtt, placements, out, last), options, json, began_s)


@plan_app.command()
def check(directory: PlanDirectory) -> None:
    """Recompute feasibility, welfare and bound from the files alone; exit 0 only if all holds."""
    from engine.cli.plan_check import check_directory

    raise typer.Exit(check_directory(directory))


@plan_app.command()
def show(directory: PlanDirectory) -> None:
    """Utilisation, refusals, prices and fragmentation of a plan, and DIR/progress.svg."""
    from engine.cli.plan_show import show_directory

    show_directory(directory)
