"""Plans that start from an earlier one: certified like any other, reproducible, no worse where nothing changed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks.instances import Instance, changed, write
from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.domain.errors import InvalidInput
from engine.domain.tiers import SecurityTier
from engine.planning.batch import plan_files
from engine.planning.certificate import check_plan
from engine.planning.encode import encode
from engine.planning.inputs import InputPaths, Inputs, read_inputs
from engine.planning.last_plan import CHANGING, read_start
from engine.planning.plan_files_schema import NODE_PRICES_FILE, PLAN_FILE
from engine.planning.plan_options import PlanOptions
from solvers.planning.plan import Limits, OnProgress, Plan, Start
from solvers.planning.problem import Problem
from solvers.planning.solve import solve
from tests.full_size import size
from tests.planning.joint_worlds import joint_world_from_seed
from tests.planning.our_plans import input_paths, plan_world

GPUS, REQUESTS = 20_000, 300


@pytest.fixture(scope="module")
def instance() -> Instance:
    fleet = synthetic_fleet(GPUS, 2)
    return Instance(fleet, synthetic_rtt(fleet, 2), synthetic_requests(fleet, REQUESTS, 2, 1.1))


@pytest.fixture(scope="module")
def earlier(instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan that others start from."""
    place = tmp_path_factory.mktemp("earlier")
    plan_files(write(instance, place / "in"), place / "out", PlanOptions(work_limit=3))
    return place / "out"


def report(directory: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((directory / "report.json").read_text())
    return found


def inputs_of(directory: Path) -> InputPaths:
    return input_paths(directory / "inputs")


def test_without_a_change_nothing_is_lost(earlier: Path, tmp_path: Path) -> None:
    """Law: the same world has at least the welfare of the plan it starts from, the same bound and prices, and a
    plan that holds.
    """
    plan_files(inputs_of(earlier), tmp_path, PlanOptions(), last=earlier)
    assert check_plan(tmp_path).faults == ()
    assert report(tmp_path)["welfare_micro_usd_per_hour"] >= report(earlier)["welfare_micro_usd_per_hour"]
    assert report(tmp_path)["bound_micro_usd_per_hour"] == report(earlier)["bound_micro_usd_per_hour"]
    assert (tmp_path / NODE_PRICES_FILE).read_bytes() == (earlier / NODE_PRICES_FILE).read_bytes()


def test_a_plan_that_nothing_improves_is_its_own_successor(tmp_path: Path) -> None:
    """Law: where the plan is optimal, planning again from it without a change gives its bytes."""
    kept = 0
    for seed in range(size(12, 100)):
        world = joint_world_from_seed(seed)
        plan_world(world, tmp_path / "first")
        if report(tmp_path / "first")["gap"] != 0:
            continue
        options = PlanOptions(
            move_cost_micro_usd=world.move_cost_micro_usd,
            displaced_bonus_micro_usd=world.displaced_bonus_micro_usd,
        )
        plan_files(inputs_of(tmp_path / "first"), tmp_path / "again", options, last=tmp_path / "first")
        again, first = (pl.read_parquet(tmp_path / name / PLAN_FILE) for name in ("again", "first"))
        if world.placements:
            assert report(tmp_path / "again")["gap"] == 0
        else:
            assert again.equals(first)
            kept += 1
    assert kept


def test_after_a_change_the_plan_holds_and_is_near(instance: Instance, earlier: Path, tmp_path: Path) -> None:
    """A few nodes and requests later: checked from its files alone, and the same bytes from the same start."""
    paths = write(changed(instance, 0.05), tmp_path / "in")
    for name in "ab":
        plan_files(paths, tmp_path / name, PlanOptions(), last=earlier)
    assert check_plan(tmp_path / "a").faults == ()
    for table in (PLAN_FILE, NODE_PRICES_FILE):
        assert (tmp_path / "a" / table).read_bytes() == (tmp_path / "b" / table).read_bytes()
    assert (
        report(tmp_path / "a")["welfare_micro_usd_per_hour"] > 0.9 * report(earlier)["welfare_micro_usd_per_hour"]
    )


@pytest.mark.parametrize("seed", range(size(10, 200)))
def test_small_worlds_with_running_work_start_from_the_plan_of_another_world(seed: int, tmp_path: Path) -> None:
    """Law 3: whatever the earlier plan said, the new one keeps every constraint of its own world."""
    world = joint_world_from_seed(seed)
    plan_world(world, tmp_path / "first")
    other = joint_world_from_seed(seed + 1)
    plan_world(other, tmp_path / "other")
    for last in ("first", "other"):
        options = PlanOptions(
            move_cost_micro_usd=world.move_cost_micro_usd,
            displaced_bonus_micro_usd=world.displaced_bonus_micro_usd,
        )
        plan_files(inputs_of(tmp_path / "first"), tmp_path / f"from-{last}", options, last=tmp_path / last)
        assert check_plan(tmp_path / f"from-{last}").faults == ()


def test_a_changed_node_that_is_forgotten_is_found(instance: Instance, earlier: Path, tmp_path: Path) -> None:
    """Planted bug: a planner that keeps the capacity of nodes from before they went down is caught."""
    used = pl.read_parquet(earlier / PLAN_FILE)["node_id"].unique().sort().head(20)
    gone = pl.when(pl.col("node_id").is_in(used.implode())).then(pl.lit("DOWN")).otherwise(pl.col("state"))
    paths = write(replace(instance, fleet=instance.fleet.with_columns(state=gone)), tmp_path / "in")
    before = encode(read_inputs(inputs_of(earlier)), 0, 0).problem

    def forgetful(problem: Problem, limits: Limits, on_progress: OnProgress | None) -> Plan:
        return solve(replace(problem, capacity=before.capacity), limits, on_progress)

    plan_files(paths, tmp_path / "right", PlanOptions(work_limit=0))
    assert check_plan(tmp_path / "right").faults == ()
    plan_files(paths, tmp_path / "wrong", PlanOptions(work_limit=0), solve=forgetful)
    assert check_plan(tmp_path / "wrong").faults != ()


def edited(
    paths: InputPaths, place: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> InputPaths:
    """Copies of the files, one of them changed."""
    place.mkdir()
    for path in (paths.fleet, paths.requests, paths.rtt):
        assert path is not None
        frame = pl.read_parquet(path)
        (change(frame) if path.stem == name else frame).write_parquet(place / path.name)
    return input_paths(place)


TIERS = [tier.name for tier in SecurityTier]
NEXT_TIER = dict(zip(TIERS, TIERS[1:] + TIERS[:1], strict=True))
CHANGES: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "a tier": ("fleet", lambda fleet: fleet.with_columns(pl.col("security_tier").replace(NEXT_TIER))),
    "certifications": (
        "fleet",
        lambda fleet: fleet.with_columns(certifications=pl.lit(["X"], pl.List(pl.String))),
    ),
    "a supplier": ("fleet", lambda fleet: fleet.with_columns(supplier_id=pl.lit("other"))),
    "no longer ready": ("fleet", lambda fleet: fleet.with_columns(state=pl.lit("DRAINING"))),
    "what is asked for": ("requests", lambda requests: requests.with_columns(duration_s=pl.col("duration_s") + 1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_is_taken_over_that_may_no_longer_hold(name: str, earlier: Path, tmp_path: Path) -> None:
    """Law 3: a placement stands again only if its request and its nodes are as they were."""
    paths = edited(inputs_of(earlier), tmp_path / "in", *CHANGES[name])
    inputs = read_inputs(paths)
    assert read_start(earlier, inputs).request.size == 0


def test_measured_rtts_matter_to_those_who_limit_them(earlier: Path, tmp_path: Path) -> None:
    """Law 3 again: other RTTs leave only requests that name none."""
    paths = edited(inputs_of(earlier), tmp_path / "in", "rtt", lambda rtt: rtt.with_columns(pl.col("rtt_ms") + 1))
    inputs = read_inputs(paths)
    start = read_start(earlier, inputs)
    taken = inputs.requests[start.request.tolist()]
    assert 0 < taken["request_id"].n_unique() < pl.read_parquet(earlier / PLAN_FILE)["request_id"].n_unique()
    assert taken["max_client_rtt_ms"].null_count() == taken["max_cluster_rtt_ms"].null_count() == taken.height


def by_names(start: Start, inputs: Inputs) -> tuple[set[tuple[str, str, int]], dict[str, float]]:
    """(placements that are taken over, earlier prices of nodes that had one) by the ids of the inputs."""
    requests, nodes = inputs.requests["request_id"].to_list(), inputs.fleet["node_id"].to_list()
    rows = zip(start.request.tolist(), start.node.tolist(), start.gpus.tolist(), strict=True)
    prices = {node: price for node, price in zip(nodes, start.node_price.tolist(), strict=True) if price == price}
    return {(requests[request], nodes[node], gpus) for request, node, gpus in rows}, prices


def plain_start(last: Path, inputs: Inputs) -> tuple[set[tuple[str, str, int]], dict[str, float]]:
    """The same as `by_names` says of `read_start`, row by row."""
    earlier = read_inputs(inputs_of(last))
    nodes, requests = (
        {row[name]: row for row in frame.iter_rows(named=True)}
        for frame, name in ((earlier.fleet, "node_id"), (earlier.requests, "request_id"))
    )
    stands, sizes = set(), {}
    for row in inputs.fleet.iter_rows(named=True):
        before = {**nodes.get(row["node_id"], {}), **{name: row[name] for name in CHANGING}}
        if row["state"] == "READY" and before == row:
            stands.add(row["node_id"])
    for row in inputs.requests.iter_rows(named=True):
        if requests.get(row["request_id"]) == row:
            sizes[row["request_id"]] = row["gpu_count"]
    plan = [row for row in pl.read_parquet(last / PLAN_FILE).iter_rows(named=True) if row["node_id"] in stands]
    left = Counter[str]()
    for row in plan:
        left[row["request_id"]] += row["gpus"]
    taken = {
        (row["request_id"], row["node_id"], row["gpus"])
        for row in plan
        if left[row["request_id"]] == sizes.get(row["request_id"])
    }
    prices = dict(pl.read_parquet(last / NODE_PRICES_FILE).iter_rows())
    had = {name for name, row in nodes.items() if row["state"] == "READY" and row["gpu_free"] > 0}
    return taken, {name: prices[name] for name in inputs.fleet["node_id"] if name in had}


def test_rows_in_another_order_are_found_by_their_ids(instance: Instance, earlier: Path, tmp_path: Path) -> None:
    """Law 3: what is taken over depends on ids, not on where rows stand; some are gone, some are new."""
    world = changed(instance, 0.05)
    for seed in range(3):
        fleet = world.fleet.sample(fraction=0.9, shuffle=True, seed=seed)
        queue = world.requests.sample(fraction=0.9, shuffle=True, seed=seed)
        fleet = fleet.with_columns(node_id=pl.col("node_id").replace(fleet["node_id"][0], "a new one"))
        inputs = read_inputs(write(replace(world, fleet=fleet, requests=queue), tmp_path / str(seed)))
        start = read_start(earlier, inputs)
        assert by_names(start, inputs) == plain_start(earlier, inputs)
        assert 0 < np.unique(start.request).size < queue.height
        assert np.array_equal(np.lexsort((start.node, start.request)), np.arange(start.node.size))


def tampered(earlier: Path, place: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """A copy of the plan, one of its tables changed."""
    shutil.copytree(earlier, place)
    change(pl.read_parquet(place / name)).write_parquet(place / name)
    return place


SHADOW = "shadow_price_micro_usd_per_gpu_hour"


def first_row(**values: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    is_first = pl.int_range(pl.len()) == 0
    return lambda frame: frame.with_columns(
        pl.when(is_first).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


TAMPERED: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "a price twice": (NODE_PRICES_FILE, lambda prices: pl.concat([prices, prices.head(1)]), "has several prices"),
    "no price": (NODE_PRICES_FILE, lambda prices: prices.slice(1), "has no price"),
    "infinite": (NODE_PRICES_FILE, first_row(**{SHADOW: float("inf")}), f"row 0 column {SHADOW}"),
    "too large to add": (NODE_PRICES_FILE, first_row(**{SHADOW: 1e300}), f"row 0 column {SHADOW}"),
    "no number": (NODE_PRICES_FILE, first_row(**{SHADOW: float("nan")}), f"row 0 column {SHADOW}"),
    "negative": (NODE_PRICES_FILE, first_row(**{SHADOW: -1.0}), f"row 0 column {SHADOW}"),
    "negative GPUs": (PLAN_FILE, first_row(gpus=-1), "row 0 column gpus"),
    "a row twice": (PLAN_FILE, lambda plan: pl.concat([plan, plan.head(1)]), "row 0 column node_id: .* duplicate"),
    "a strange node": (PLAN_FILE, first_row(node_id="stranger"), "row 0 column node_id: 'stranger' is no node"),
    "a strange request": (PLAN_FILE, first_row(request_id="stranger"), "row 0 column request_id"),
}


@pytest.mark.parametrize("name", TAMPERED)
@pytest.mark.filterwarnings("error")
def test_an_earlier_plan_is_not_trusted(name: str, earlier: Path, tmp_path: Path) -> None:
    """Law: what `plan check` could not read, or no plan can say, is bad input by file, row and column."""
    table, change, said = TAMPERED[name]
    last = tampered(earlier, tmp_path / "last", table, change)
    with pytest.raises(InvalidInput, match=f"{last}/{table}.*{said}"):
        plan_files(inputs_of(earlier), tmp_path / "out", PlanOptions(), last=last)


def test_everything_that_is_wrong_with_an_earlier_plan_is_listed(earlier: Path, tmp_path: Path) -> None:
    last = tampered(earlier, tmp_path / "last", PLAN_FILE, first_row(gpus=0))
    (last / NODE_PRICES_FILE).unlink()
    (last / "report.json").write_text("{")
    with pytest.raises(InvalidInput) as found:
        read_start(last, read_inputs(inputs_of(earlier)))
    named = [violation.field.removeprefix(f"{last}/").split()[0] for violation in found.value.violations]
    assert named == ["plan.parquet", "node_prices.parquet", "report.json"]


def test_an_overfull_earlier_plan_is_a_start(earlier: Path, tmp_path: Path) -> None:
    """Law 3: of a plan that does not fit, what fits is kept, and the new one holds."""
    last = tampered(earlier, tmp_path / "last", PLAN_FILE, lambda plan: plan.with_columns(pl.col("gpus") * 2))
    plan_files(inputs_of(earlier), tmp_path / "out", PlanOptions(work_limit=0), last=last)
    assert check_plan(tmp_path / "out").faults == ()


def test_the_report_names_the_plan_it_started_from(earlier: Path, tmp_path: Path) -> None:
    """Law: the report has every parameter; the earlier plan by what was in it, not by where it lay."""
    moved = tmp_path / "moved"
    shutil.copytree(earlier, moved)
    for last in (earlier, moved):
        plan_files(inputs_of(earlier), tmp_path / "out", PlanOptions(work_limit=0), last=last)
        named: Any = report(tmp_path / "out")["last"]
        assert named == {name: sha256((earlier / name).read_bytes()).hexdigest() for name in named}
        assert {PLAN_FILE, NODE_PRICES_FILE, "inputs/fleet.parquet"} <= set(named)
        assert check_plan(tmp_path / "out").faults == ()
    assert report(earlier)["last"] is None


def test_what_is_no_plan_is_bad_input(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no finished plan"):
        plan_files(inputs_of(earlier), tmp_path / "out", PlanOptions(), last=tmp_path)
