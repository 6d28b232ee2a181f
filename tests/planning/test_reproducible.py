"""Same input, seed and work limit: the same bytes, whoever searches and however many they are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.planning.batch import plan_files
from engine.planning.inputs import InputPaths
from engine.planning.job import Solve
from engine.planning.plan_files_schema import MOVES_FILE, NODE_PRICES_FILE, PLAN_FILE, REFUSALS_FILE
from engine.planning.plan_options import PlanOptions
from solvers.planning.solve import solve
from solvers.planning.workers import Threads
from tests.full_size import size
from tests.planning.joint_worlds import joint_world_from_seed
from tests.planning.our_plans import plan_world

TABLES = (PLAN_FILE, NODE_PRICES_FILE, REFUSALS_FILE, MOVES_FILE)
WORK_LIMIT = 4


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
