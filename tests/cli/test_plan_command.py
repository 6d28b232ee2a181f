"""`walras plan`, `plan check`, `plan show`: exit codes of the contract, answers on stdout, the rest on stderr."""

from __future__ import annotations

import gc
import io
import json
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from engine.cli import plan_screen
from engine.cli.plan_screen import PlanScreen, watching
from engine.planning import job
from engine.planning.inputs import InputPaths
from solvers.planning.plan import Progress
from tests.cli.conftest import Walras
from tests.planning.first_come import first_come
from tests.planning.honest_plans import write_honest_plan
from tests.planning.joint_oracle import optimum_of
from tests.planning.planted_faults import change_report
from tests.planning.queues import queue_with_running_work
from tests.planning.test_certificate import prices, relay


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InputPaths:
    """Files of a small queue; plans are made by a search of the tests."""
    monkeypatch.setattr(job, "_solver", lambda *_: first_come)
    return queue_with_running_work().files(tmp_path / "in")


def arguments(paths: InputPaths, out: Path) -> list[object]:
    files = (
        ("fleet", paths.fleet),
        ("requests", paths.requests),
        ("rtt", paths.rtt),
        ("placements", paths.placements),
    )
    return ["plan", *(part for name, path in files for part in (f"--{name}", path)), "--out", out]


@pytest.mark.parametrize("seed", [3, -1])
def test_the_collector_works_again_after_a_plan(
    walras: Walras, paths: InputPaths, tmp_path: Path, seed: int
) -> None:
    """Law: whether the command makes a plan or finds bad input, nothing of the process stays changed."""
    assert gc.isenabled()
    walras(*arguments(paths, tmp_path / "out"), "--seed", seed)
    assert gc.isenabled()


def test_a_plan_is_written_checked_and_shown(walras: Walras, tmp_path: Path) -> None:
    """By our own planner: the check also judges its reasons."""
    paths, out = queue_with_running_work().files(tmp_path / "in"), tmp_path / "deep" / "out"
    made = walras(*arguments(paths, out), "--seed", 3)
    assert made.code == 0 and made.err == "" and "proven bound" in made.out
    checked = walras("plan", "check", out)
    assert checked.code == 0 and "holds" in checked.out
    shown = walras("plan", "show", out)
    assert shown.code == 0 and "utilisation of READY nodes" in shown.out and "progress.svg" in shown.err
    assert (out / "progress.svg").read_text().startswith("<svg")


def test_a_plan_where_nothing_can_be_written_is_shown(walras: Walras, paths: InputPaths, tmp_path: Path) -> None:
    """The picture is a remark: the tables are the answer."""
    out = tmp_path / "out"
    walras(*arguments(paths, out))
    (out / "progress.svg").mkdir()
    shown = walras("plan", "show", out)
    assert shown.code == 0 and "utilisation of READY nodes" in shown.out and "was not written" in shown.err


def test_parts_cpu_and_memory_are_planned_and_checked(walras: Walras, tmp_path: Path) -> None:
    """Our planner serves a queue that names them; its cards are in the plan, and a full card is found."""
    paths = queue_with_running_work().files(tmp_path / "in")
    parts = [
        {"request_id": f"part{milli}", "gpu_count": 1, "gpu_milli": milli, "cpu_milli": 500, "duration_s": 60}
        | {"max_price_micro_usd_per_gpu_hour": 90_000_000}
        for milli in (400, 601)
    ]
    queue = pl.concat([pl.read_parquet(paths.requests), pl.DataFrame(parts)], how="diagonal_relaxed")
    queue.write_parquet(paths.requests)
    out = tmp_path / "out"
    assert walras(*arguments(paths, out)).code == 0
    assert walras("plan", "check", out).code == 0 and walras("plan", "show", out).code == 0
    plan = pl.read_parquet(out / "plan.parquet")
    mine = plan.filter(pl.col("request_id").str.starts_with("part"))
    assert mine.height == 2 and mine["card"].null_count() == 0
    plan.with_columns(card=pl.when(pl.col("card").is_not_null()).then(0)).with_columns(
        node_id=pl.when(pl.col("card") == 0).then(pl.lit(mine["node_id"][0])).otherwise("node_id")
    ).write_parquet(out / "plan.parquet")
    checked = walras("plan", "check", out)
    assert checked.code == 1 and "OVERFULL_CARD" in checked.err


def test_json_is_the_report(walras: Walras, paths: InputPaths, tmp_path: Path) -> None:
    made = walras(*arguments(paths, tmp_path / "out"), "--json", "--work-limit", 5, "--move-cost-micro-usd", 9)
    assert made.code == 0 and json.loads(made.out) == json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(made.out)["work_limit"] == 5 and json.loads(made.out)["move_cost_micro_usd"] == 9


def test_a_plan_that_was_tampered_with_is_a_no_that_lists_everything(
    walras: Walras, paths: InputPaths, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    walras(*arguments(paths, out))
    frame = pl.read_parquet(out / "plan.parquet")
    frame.with_columns(pl.col("gpus") + 1).write_parquet(out / "plan.parquet")
    checked = walras("plan", "check", out)
    assert checked.code == 1 and checked.out == ""
    assert "SPLIT_GANG" in checked.err and "WRONG_WELFARE" in checked.err


def test_a_check_says_what_it_takes_on_trust(walras: Walras, tmp_path: Path) -> None:
    """Law: a stronger bound, and an OPTIMAL that rests on it alone, are told as the solver's word."""
    world, optimal = relay(), "rests on the stronger bound alone: not checked either"
    assert write_honest_plan(world, optimum_of(world), prices(world, 0), tmp_path)
    checked = walras("plan", "check", tmp_path)
    assert checked.code == 0 and optimal not in checked.out
    assert "an hour, by CP-SAT: not checked, prices cannot prove it" in checked.out
    change_report(tmp_path, status="OPTIMAL")
    assert optimal in walras("plan", "check", tmp_path).out
    change_report(tmp_path, status="FEASIBLE", stronger_bound_micro_usd_per_hour=None, stronger_gap=None)
    assert "stronger" not in walras("plan", "check", tmp_path).out


def test_missing_options_are_bad_input(walras: Walras) -> None:
    run = walras("plan")
    assert run.code == 2 and run.out == ""
    assert all(f"{option}: is required" in run.err for option in ("--fleet", "--requests", "--out"))


@pytest.mark.parametrize(
    "option", [["--time-limit", 0], ["--time-limit", "soon"], ["--seed", -1], ["--workers", 0]]
)
def test_options_out_of_range_are_bad_input(
    walras: Walras, paths: InputPaths, tmp_path: Path, option: list[object]
) -> None:
    run = walras(*arguments(paths, tmp_path / "out"), *option)
    assert run.code == 2 and str(option[0]) in run.err and not (tmp_path / "out").exists()


def test_broken_files_are_bad_input_named_by_row_and_column(
    walras: Walras, paths: InputPaths, tmp_path: Path
) -> None:
    frame = pl.read_parquet(paths.requests)
    frame.with_columns(gpu_count=-pl.col("gpu_count")).write_parquet(paths.requests)
    paths.fleet.write_bytes(b"")
    run = walras(*arguments(paths, tmp_path / "out"))
    assert run.code == 2 and run.out == "" and not (tmp_path / "out").exists()
    assert "requests.parquet row 0 column gpu_count" in run.err and "fleet.parquet" in run.err


def test_a_place_that_cannot_be_written_is_bad_input(walras: Walras, paths: InputPaths, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run = walras(*arguments(paths, tmp_path / "file" / "out"))
    assert run.code == 2 and "file" in run.err


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_directory_without_a_plan_is_bad_input(walras: Walras, tmp_path: Path, command: str) -> None:
    run = walras("plan", command, tmp_path)
    assert run.code == 2 and run.out == "" and "fleet.parquet: no such file" in run.err


def test_nobody_watches_a_pipe() -> None:
    with watching(Console(file=io.StringIO(), force_terminal=False), None) as listener:
        assert listener is None


def test_the_live_line_shows_phase_figures_and_gap_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = PlanScreen(time_limit_s=10.0)
    screen.hear(Progress("bound", 0.1, None, 4_000_000_000))
    screen.hear(Progress("search", 0.2, 3_000_000_000, None))
    console = Console(file=io.StringIO(), width=140)
    console.print(screen.render())
    monkeypatch.setattr(plan_screen, "QUIET_S", 0.0)
    console.print(screen.render())
    quiet, line = console.file.getvalue().split("\n")[:2]  # type: ignore[attr-defined]
    assert quiet == ""
    assert all(part in line for part in ("search", "welfare $3,000.00/h", "bound $4,000.00/h", "gap 25.000 %"))
