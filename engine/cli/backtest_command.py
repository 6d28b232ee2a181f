"""`walras backtest`."""

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
    from engine.backtest.runs import Drawn, OnSeed, SeedRun

TRACE_SEEDS = 4


class ScenarioName(StrEnum):
    """What can be played."""

    DEMAND_STEP = "demand-step"
    TRACE = "trace"
    MANIPULATION = "manipulation"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Market")(backtest)


def backtest(
    scenario: Annotated[ScenarioName, typer.Option(help="What is played.")] = ScenarioName.DEMAND_STEP,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help=f"Public data for `trace`; ${DATA_VARIABLE} if not given.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help=f"Seeds 0 to N − 1: 12 for `demand-step`, else {TRACE_SEEDS}."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Another length; targets are for the default.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture of the prices of seed 0.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; the cores if not given.")] = None,
    json: JsonFlag = False,
) -> None:
    """Play a request stream against pricing policies: fixed, occupancy, oracle."""
    if scenario is ScenarioName.MANIPULATION:
        from engine.cli.manipulation_run import run_manipulation

        run_manipulation(seeds, workers, json, _progress, {"--data": data, "--days": days, "--svg": svg})
        return
    from engine.backtest.runs import run_seeds, table
    from engine.cli.screen import print_json

    drawn = _drawn(scenario, data, days)
    count = seeds or (TRACE_SEEDS if scenario is ScenarioName.TRACE else 12)
    with _progress(count) as on_seed:
        runs = run_seeds(drawn, range(count), workers, on_seed)
    if svg is not None:
        _draw(svg, runs[0], f"{scenario.value}, seed 0")
    if json:
        print_json(table(runs))
    else:
        _show(f"{scenario.value}: means of {count} seeds", table(runs), scenario is ScenarioName.DEMAND_STEP)


def _drawn(scenario: ScenarioName, data: str | None, days: int | None) -> Drawn:
    if scenario is ScenarioName.TRACE:
        from engine.backtest.trace import Trace

        return Trace(_data_directory(data), **_given(days))
    from engine.backtest.demand_step import DemandStep

    return DemandStep(**_given(days))


def _given(days: int | None) -> dict[str, int]:
    return {} if days is None else {"days": days}


def _data_directory(named: str | None) -> Path:
    from engine.domain.errors import InvalidInput, Violation

    place = named or os.environ.get(DATA_VARIABLE, "")
    if not place:
        told = f"scenario trace needs public data: name its directory, or set ${DATA_VARIABLE}"
        raise InvalidInput([Violation("--data", told)])
    if not Path(place).is_dir():
        raise InvalidInput([Violation("--data" if named else f"${DATA_VARIABLE}", f"{place} is not a directory")])
    return Path(place)


@contextmanager
def _progress(seeds: int) -> Iterator[OnSeed | None]:
    """A bar of the seeds done, on stderr, if that is a terminal."""
    from rich.progress import Progress

    from engine.cli.screen import remarks

    console = remarks()
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("playing seeds", total=seeds)
        yield lambda _: bar.advance(task)


def _draw(svg: Path, run: SeedRun, title: str) -> None:
    from engine.backtest.price_picture import price_svg
    from engine.cli.screen import remarks

    svg.write_text(price_svg(run, title), encoding="utf-8")
    remarks().print(f"prices over time as a picture: {svg}", soft_wrap=True)


def _show(title: str, means: dict[str, dict[str, float | None]], with_targets: bool) -> None:
    from engine.backtest.metrics import TARGETS, missed_targets
    from engine.cli.screen import answers
    from engine.cli.text_table import text_table

    names = [name for name in means["oracle"] if any(row[name] is not None for row in means.values())]
    limits = {name: _limit(name) for name in TARGETS} if with_targets else {}
    rows = (
        (_words(name), *(_figure(name, means[policy][name]) for policy in means), limits.get(name, ""))
        for name in names
    )
    answers().print(text_table(title, ("metric",), (*means, "target" if with_targets else ""), rows))
    if with_targets:
        missed = ", ".join(map(_words, missed_targets(means["oracle"])))
        answers().print(f"oracle misses: {missed}" if missed else "oracle meets every target")


def _limit(name: str) -> str:
    from engine.backtest.metrics import TARGETS

    target = TARGETS[name]
    return f"{'≥' if target.at_least else '≤'} {_figure(name, target.limit)}"


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} h" if name.startswith("hours_") else f"{100 * value:.2f} %"


def _words(name: str) -> str:
    return name.replace("_", " ")
