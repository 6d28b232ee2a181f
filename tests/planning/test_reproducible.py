"""Same input, seed and work limit: the same bytes, whoever searches and however many they are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.planning.batch import plan_files
from engine.planning.certificate import check_plan
from engine.planning.inputs import InputPaths
from engine.planning.job import Solve
from engine.planning.plan_files_schema import MOVES_FILE, NODE_PRICES_FILE, PLAN_FILE, REFUSALS_FILE
from engine.planning.plan_options import PlanOptions
from solvers.planning.processes import Processes
from solvers.planning.solve import solve
from solvers.planning.workers import Threads
from tests.full_size import size
from tests.planning.joint_worlds import joint_world_from_seed
from tests.planning.our_plans import plan_world

TABLES = (PLAN_FILE, NODE_PRICES_FILE, REFUSALS_FILE, MOVES_FILE)
WORK_LIMIT = 4
CHANGED = ("request_id", "gpu_count", "gpus_per_node", "gpu_milli", "cpu_milli", "max_supplier_share")
"""Columns of a request that a part made of it has of its own, or has not."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> InputPaths:
    """20,000 GPUs that cannot serve all of 400 requests."""
    place = tmp_path_factory.mktemp("world")
    fleet = synthetic_fleet(20_000, 2)
    frames = {
        "fleet": fleet,
        "requests": synthetic_requests(fleet, 400, 2, 1.1),
        "rtt": synthetic_rtt(fleet, 2),
    }
    for name, frame in frames.items():
        frame.write_parquet(place / f"{name}.parquet")
    return InputPaths(**{name: place / f"{name}.parquet" for name in frames})


def tables(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in TABLES}


OPTIONS = PlanOptions(work_limit=WORK_LIMIT, seed=5)


@pytest.fixture(scope="module")
def first(paths: InputPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan that others are compared with."""
    out = tmp_path_factory.mktemp("first")
    plan_files(paths, out, OPTIONS)
    return out


def on_threads(count: int) -> Solve:
    return partial(solve, searchers=Threads(count))


@pytest.mark.parametrize("search", [solve, on_threads(1), on_threads(2), on_threads(3)])
def test_the_same_bytes_from_any_number_of_threads(
    paths: InputPaths, first: Path, tmp_path: Path, search: Solve | None
) -> None:
    plan_files(paths, tmp_path / "again", OPTIONS, solve=search)
    assert tables(first) == tables(tmp_path / "again")


def test_without_a_limit_too(paths: InputPaths, tmp_path: Path) -> None:
    """A search that ends because nothing helps any more is as reproducible as one that a limit ends."""
    for count in (1, 2):
        plan_files(paths, tmp_path / str(count), PlanOptions(), solve=on_threads(count))
    assert tables(tmp_path / "1") == tables(tmp_path / "2")


def test_queues_with_parts_too(paths: InputPaths, tmp_path: Path) -> None:
    """Cards, CPU and memory are part of the state that threads share and processes send; the plan is sound."""
    fleet, queue = (pl.read_parquet(path) for path in (paths.fleet, paths.requests))
    parts = pl.concat([queue] * 4).with_row_index().select(
        *(name for name in queue.columns if name not in CHANGED),
        request_id=pl.format("p{}", "index"),
        gpu_count=pl.lit(1, pl.Int64),
        gpus_per_node=pl.lit(1, pl.Int64),
        gpu_milli=(pl.col("index") % 7 + 1).cast(pl.Int64) * 130,
        cpu_milli=(pl.col("index") % 5).cast(pl.Int64) * 900 + 1,
    )  # fmt: skip
    given = InputPaths(tmp_path / "fleet.parquet", tmp_path / "requests.parquet", paths.rtt)
    fleet.with_columns(cpu_milli=pl.col("gpu_count") * 2_500).write_parquet(given.fleet)
    pl.concat([queue, parts], how="diagonal_relaxed").write_parquet(given.requests)
    with Processes(2) as processes:
        for name, search in (("1", Threads(1)), ("2", Threads(2)), ("processes", processes)):
            plan_files(given, tmp_path / name, OPTIONS, solve=partial(solve, searchers=search))
    assert check_plan(tmp_path / "1").faults == ()
    assert pl.read_parquet(tmp_path / "1" / PLAN_FILE)["card"].count() > 400
    assert tables(tmp_path / "1") == tables(tmp_path / "2") == tables(tmp_path / "processes")


def test_another_seed_searches_differently(paths: InputPaths, first: Path, tmp_path: Path) -> None:
    """The comparison can fail: the seed reaches the search."""
    plan_files(paths, tmp_path, replace(OPTIONS, seed=6))
    assert (first / PLAN_FILE).read_bytes() != (tmp_path / PLAN_FILE).read_bytes()


@pytest.mark.parametrize("seed", range(size(6, 20)))
def test_small_worlds_with_running_work(seed: int, tmp_path: Path) -> None:
    """Those that CP-SAT finishes, and moves, are the same again too."""
    world = joint_world_from_seed(seed)
    for name in ("first", "again"):
        plan_world(world, tmp_path / name)
    assert tables(tmp_path / "first") == tables(tmp_path / "again")
