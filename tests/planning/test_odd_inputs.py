"""Odd inputs give a correct plan with an honest status; a broken file gives exit 2 and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from engine.cli.main import main
from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.planning.batch import plan_files
from engine.planning.certificate import check_plan
from engine.planning.inputs import InputPaths
from engine.planning.job import Solve
from engine.planning.plan_files_schema import PlanStatus
from engine.planning.plan_options import PlanOptions
from engine.planning.report import Report
from solvers.planning.solve import solve
from tests.full_size import size
from tests.planning.joint_worlds import JointWorld
from tests.planning.our_plans import plan_world
from tests.planning.queues import queue_with_running_work
from tests.planning.striking_clock import StrikingClock
from tests.planning.test_joint_oracle import asked, runs
from tests.test_oracles import node

TWO_NODES = [node("n0", 10), node("n1", 12)]
TWO_REQUESTS = [asked("r0", 8, 90), asked("r1", 4, 50)]
RUNNING = [runs("r0", "n0", 8)]


def world(fleet: list[dict[str, object]], requests: list[dict[str, object]]) -> JointWorld:
    return JointWorld(fleet, [], requests, [], 1, 5)


def in_state(state: str) -> JointWorld:
    """r0 runs on n0, and every node is in this state."""
    fleet = [each | {"state": state} for each in (TWO_NODES[0] | {"gpu_free": 0}, TWO_NODES[1])]
    return replace(world(fleet, TWO_REQUESTS), placements=RUNNING)


ODD = {
    "nothing at all": (world([], []), {}),
    "empty queue": (world(TWO_NODES, []), {}),
    "empty fleet": (world([], TWO_REQUESTS), dict.fromkeys(("r0", "r1"), "NO_FEASIBLE_PLACEMENT")),
    "one node": (world(TWO_NODES[:1], TWO_REQUESTS), {"r1": "SCARCE_CAPACITY"}),
    "one request": (world(TWO_NODES, TWO_REQUESTS[:1]), {}),
    "infeasible": (world(TWO_NODES, [asked("r", 800, 90)]), {"r": "NO_FEASIBLE_PLACEMENT"}),
    "all refused": (world(TWO_NODES, [asked("r", 8, 1), asked("s", 8, 2)]), dict.fromkeys("rs", "PRICE_TOO_LOW")),
    "every node down": (in_state("DOWN"), {"r0": "DISPLACED", "r1": "NO_FEASIBLE_PLACEMENT"}),
    "every node draining": (in_state("DRAINING"), {"r0": "DISPLACED", "r1": "NO_FEASIBLE_PLACEMENT"}),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("work_limit", [None, 0])
def test_odd_worlds_are_planned_and_proven(name: str, work_limit: int | None, tmp_path: Path) -> None:
    """So little is asked here that every plan is proven optimal, even by a search that may not search."""
    odd, refused = ODD[name]
    report = plan_world(odd, tmp_path / "out", work_limit)
    assert check_plan(tmp_path / "out").faults == ()
    assert report.status is PlanStatus.OPTIMAL and report.requests == len(odd.requests)
    assert report.requests_served == report.requests - len(refused)
    assert dict(pl.read_parquet(tmp_path / "out" / "refusals.parquet")["request_id", "reason"].rows()) == refused


# --------------------------------------------------------------------------------------- limits of the search


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> InputPaths:
    """More requests than the fleet can serve."""
    place = tmp_path_factory.mktemp("crowded")
    fleet = synthetic_fleet(size(20_000, 50_000), 1)
    frames = {
        "fleet": fleet,
        "requests": synthetic_requests(fleet, size(400, 1_000), 1, 1.3),
        "rtt": synthetic_rtt(fleet, 1),
    }
    for name, frame in frames.items():
        frame.write_parquet(place / f"{name}.parquet")
    return InputPaths(**{name: place / f"{name}.parquet" for name in frames})


def sound_plan(paths: InputPaths, out: Path, search: Solve | None = None, **options: float) -> Report:
    report = plan_files(paths, out, PlanOptions(**options), solve=search)  # type: ignore[arg-type]
    assert check_plan(out).faults == ()
    assert report.gap is not None and 0 < report.requests_served < report.requests
    return report


@pytest.mark.parametrize("limit_s", [1e-6, 0.01])
def test_a_time_limit_that_leaves_no_time_still_gives_a_plan(
    crowded: InputPaths, tmp_path: Path, limit_s: float
) -> None:
    assert sound_plan(crowded, tmp_path / "out", time_limit_s=limit_s).status is PlanStatus.TIME_LIMIT


def test_a_second_is_enough_or_the_report_says_that_it_was_not(crowded: InputPaths, tmp_path: Path) -> None:
    report = sound_plan(crowded, tmp_path / "out", time_limit_s=1.0)
    assert report.status in (PlanStatus.TIME_LIMIT, PlanStatus.FEASIBLE)


@pytest.mark.parametrize(("looks", "status"), [(20, PlanStatus.TIME_LIMIT), (10_000, PlanStatus.FEASIBLE)])
def test_the_report_says_whether_the_clock_ended_the_search(
    crowded: InputPaths, tmp_path: Path, looks: int, status: PlanStatus
) -> None:
    search = partial(solve, clock=StrikingClock(looks))
    report = sound_plan(crowded, tmp_path / "out", search, time_limit_s=3_600.0)
    assert report.status is status


def test_more_work_gives_no_worse_a_plan(crowded: InputPaths, tmp_path: Path) -> None:
    welfare = []
    for work_limit in (0, 1, 3):
        report = sound_plan(crowded, tmp_path / str(work_limit), work_limit=work_limit)
        assert report.status is PlanStatus.FEASIBLE
        welfare.append(report.welfare_micro_usd_per_hour)
    assert welfare == sorted(welfare)


# ----------------------------------------------------------------------------------------------- broken files

BROKEN = {
    "fleet": ("gpu_free", -1),
    "requests": ("gpu_count", 0),
    "rtt": ("rtt_ms", -2.5),
    "placements": ("gpus", 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_value_is_named_by_row_and_column(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = queue_with_running_work().files(tmp_path / "in")
    path, (column, value) = getattr(paths, name), BROKEN[name]
    frame = pl.read_parquet(path)
    last = pl.int_range(pl.len()) == frame.height - 1
    broken = pl.when(last).then(pl.lit(value, frame.schema[column])).otherwise(pl.col(column))
    frame.with_columns(broken.alias(column)).write_parquet(path)
    said = refusal_of_the_command(paths, tmp_path / "out", capsys)
    assert f"{name}.parquet row {frame.height - 1} column {column}" in said


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("content", [None, b"", b"PAR1 and nothing"])
def test_a_file_that_is_not_there_or_no_table_is_named(
    name: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = queue_with_running_work().files(tmp_path / "in")
    path: Path = getattr(paths, name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert path.name in refusal_of_the_command(paths, tmp_path / "out", capsys)


def refusal_of_the_command(paths: InputPaths, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `walras plan` says on stderr; nothing else comes of it."""
    capsys.readouterr()
    files = [part for name in BROKEN for part in (f"--{name}", str(getattr(paths, name)))]
    code, said = main(["plan", *files, "--out", str(out)]), capsys.readouterr()
    assert (code, said.out) == (2, "") and not out.exists()
    return said.err
