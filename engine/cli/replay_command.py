"""`walras replay`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.cluster_commands import JsonFlag
from engine.cli.world_command import DATA_VARIABLE

if TYPE_CHECKING:
    from engine.backtest.sharing_runs import OnRun, Run

SEEDS = 10


class ReplayName(StrEnum):
    """What can be replayed."""

    OPENB = "openb"


class TraceName(StrEnum):
    """Variants of the open trace."""

    DEFAULT = "default"
    GPUSPEC33 = "gpuspec33"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Planning")(replay)


def replay(
    name: Annotated[ReplayName, typer.Argument(help="The published experiment.")],
    trace: Annotated[
        TraceName, typer.Option(help="`gpuspec33`: a third of the pods with GPUs name models.")
    ] = TraceName.DEFAULT,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help=f"Public data; ${DATA_VARIABLE} if not given.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N − 1.")] = SEEDS,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture of the shares over demand.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; the cores if not given.")] = None,
    json: JsonFlag = False,
) -> None:
    """Place the pods of an open trace one by one, by our policy and by published ones: GPUs allocated."""
    from engine.backtest.sharing_runs import POLICIES, run_all, table
    from engine.cli.screen import print_json

    directory = _data_directory(data)
    with _progress(seeds * len(POLICIES)) as on_run:
        runs = run_all(directory, trace.value, seeds, workers, on_run)
    if svg is not None:
        _draw(svg, runs, f"{name.value} {trace.value}: means of {seeds} seeds")
    if json:
        print_json(table(runs))
    else:
        _show(runs, trace.value, seeds)


def _data_directory(named: str | None) -> Path:
    from engine.domain.errors import InvalidInput, Violation

    place = named or os.environ.get(DATA_VARIABLE, "")
    if not place:
        told = f"the trace is public data: name its directory, or set ${DATA_VARIABLE}"
        raise InvalidInput([Violation("--data", told)])
    if not Path(place).is_dir():
        raise InvalidInput([Violation("--data" if named else f"${DATA_VARIABLE}", f"{place} is not a directory")])
    return Path(place)


@contextmanager
def _progress(runs: int) -> Iterator[OnRun | None]:
    """A bar of the runs done, on stderr, if that is a terminal."""
    from rich.progress import Progress

    from engine.cli.screen import remarks

    console = remarks()
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("replaying", total=runs)
        yield lambda: bar.advance(task)


def _draw(svg: Path, runs: list[Run], title: str) -> None:
    from engine.backtest.sharing_picture import sharing_svg
    from engine.cli.screen import remarks

    svg.write_text(sharing_svg(runs, title), encoding="utf-8")
    remarks().print(f"shares over demand as a picture: {svg}", soft_wrap=True)


def _show(runs: list[Run], trace: str, seeds: int) -> None:
    from engine.backtest.sharing_published import PUBLISHED
    from engine.backtest.sharing_runs import table
    from engine.cli.screen import answers
    from engine.cli.text_table import text_table

    rows = (
        (
            policy,
            *(f"{100 * share:.2f} %" for share in shares.values()),
            *(f"{percent:.2f} %" for percent in PUBLISHED[trace].get(policy, ())),
            *("-" for _ in range(0 if policy in PUBLISHED[trace] else 2)),
            f"{_pods_per_s(runs, policy):,.0f}",
        )
        for policy, shares in table(runs).items()
    )
    title = f"openb {trace}: share of GPUs allocated, means of {seeds} seeds"
    numbers = ("at 100 %", "at 130 %", "published", "published", "pods per CPU second")
    answers().print(text_table(title, ("policy",), numbers, rows))


def _pods_per_s(runs: list[Run], policy: str) -> float:
    speeds = [run.pods_per_cpu_s for run in runs if run.policy == policy]
    return sum(speeds) / len(speeds)
