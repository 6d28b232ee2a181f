"""Files to files: what is written holds, is the same every time, and is either whole or not there."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.domain.errors import AuditFailed, InvalidInput
from engine.planning.batch import plan_files
from engine.planning.certificate import check_plan
from engine.planning.certificate_faults import FaultCode
from engine.planning.plan_files_schema import MOVES_SCHEMA, PlanStatus
from engine.planning.plan_options import PlanOptions
from engine.planning.prices_charged import charge, list_prices
from engine.planning.report import status_of
from solvers.planning.plan import Limits, OnProgress, Plan, Progress
from solvers.planning.problem import Problem
from tests.full_size import size
from tests.planning.first_come import first_come, plan_of
from tests.planning.queues import Queue, queue_from_seed, queue_with_running_work
from tests.planning.test_encode import encoded_of

TABLES = ("plan.parquet", "node_prices.parquet", "refusals.parquet", "moves.parquet")


def planned(queue: Queue, place: Path, options: PlanOptions | None = None) -> Path:
    out = place / "out"
    plan_files(queue.files(place / "in"), out, options or PlanOptions(), solve=first_come)
    return out


def faults_of(out: Path) -> set[FaultCode]:
    """What the checker finds, but for reasons: this solver gives no account of whom it refuses."""
    return {fault.code for fault in check_plan(out).faults} - {FaultCode.WRONG_REASON}


@pytest.mark.parametrize("seed", range(size(15, 25)))
def test_the_independent_checker_agrees_with_what_is_written(seed: int, tmp_path: Path) -> None:
    """Welfare, prices, make-whole, counts, bound and copies, recomputed by code that shares nothing with ours."""
    out = planned(queue_from_seed(seed, running=6), tmp_path)
    assert faults_of(out) == set()


@pytest.mark.parametrize("change", ["no requests", "no fleet", "one node", "all down"])
def test_worlds_with_little_in_them_are_planned(change: str, tmp_path: Path) -> None:
    queue = queue_from_seed(3, running=0)
    requests = [row | {"client_site": None, "max_client_rtt_ms": None} for row in queue.requests]
    down = [node | {"state": "DOWN"} for node in queue.fleet]
    changed = {
        "no requests": replace(queue, requests=[]),
        "no fleet": replace(queue, fleet=[], requests=requests),
        "one node": replace(queue, fleet=queue.fleet[:1], requests=requests[:1]),
        "all down": replace(queue, fleet=down),
    }
    out = planned(changed[change], tmp_path)
    assert faults_of(out) == set()
    report = json.loads((out / "report.json").read_text())
    assert report["requests_served"] == 0 or change == "one node"
    assert report["status"] == ("OPTIMAL" if change == "no requests" else "FEASIBLE")


def test_same_files_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    """Law 10."""
    first, second = (planned(queue_with_running_work(), tmp_path / name) for name in "ab")
    for name in TABLES:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_report_says_what_was_planned_with_what(tmp_path: Path) -> None:
    out = planned(queue_with_running_work(), tmp_path, PlanOptions(seed=7, work_limit=3, move_cost_micro_usd=5))
    report = json.loads((out / "report.json").read_text())
    parameters = {"seed": 7, "work_limit": 3, "move_cost_micro_usd": 5, "displaced_bonus_micro_usd": 1_000_000}
    assert parameters.items() <= report.items()
    assert set(report["phases"]) == {"read", "encode", "solve", "answers", "write"}
    assert report["wall_s"] >= sum(report["phases"].values()) and report["peak_rss_mb"] > 10
    assert [step["phase"] for step in report["history"]] == ["bound", "first come"]
    for name, digest in report["inputs"].items():
        copy = out / "inputs" / name
        assert digest == hashlib.sha256(copy.read_bytes()).hexdigest()
        assert copy.read_bytes() == (tmp_path / "in" / name).read_bytes()
        assert copy.stat().st_ino != (tmp_path / "in" / name).stat().st_ino


def test_a_plan_replaces_all_of_the_one_before(tmp_path: Path) -> None:
    """What this job was not given must not be left over from the last one."""
    out = planned(queue_with_running_work(), tmp_path)
    paths = replace(queue_with_running_work().files(tmp_path / "in"), placements=None)
    plan_files(paths, out, PlanOptions(), solve=first_come)
    assert not (out / "inputs" / "placements.parquet").exists()
    assert faults_of(out) == set()


def test_the_copies_of_a_plan_can_be_planned_again(tmp_path: Path) -> None:
    out = planned(queue_with_running_work(), tmp_path)
    before = (out / "plan.parquet").read_bytes()
    names = ("fleet", "requests", "rtt", "placements")
    paths = type(queue_with_running_work().files(tmp_path / "in"))(
        *(out / "inputs" / f"{name}.parquet" for name in names)
    )
    plan_files(paths, out, PlanOptions(), solve=first_come)
    assert (out / "plan.parquet").read_bytes() == before and faults_of(out) == set()


def liar(problem: Problem, limits: Limits, on_progress: OnProgress | None) -> Plan:
    plan = first_come(problem, limits)
    return replace(plan, welfare=plan.welfare + 1)


def test_figures_that_do_not_add_up_are_never_written(tmp_path: Path) -> None:
    """The plan before stays as it was, and so it does when the input is bad."""
    out = planned(queue_with_running_work(), tmp_path)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    paths = queue_with_running_work().files(tmp_path / "in")
    with pytest.raises(AuditFailed, match="welfare"):
        plan_files(paths, out, PlanOptions(), solve=liar)
    with pytest.raises(InvalidInput):
        plan_files(replace(paths, fleet=tmp_path / "none.parquet"), out, PlanOptions(), solve=first_come)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_the_time_limit_is_for_the_whole_job(tmp_path: Path) -> None:
    """CONTRACT: reading and writing are inside. The search gets what is left, and never less than nothing."""
    given: list[Limits] = []

    def watched(problem: Problem, limits: Limits, on_progress: OnProgress | None) -> Plan:
        given.append(limits)
        return first_come(problem, limits)

    paths = queue_from_seed(1).files(tmp_path / "in")
    for began_s in (time.perf_counter(), time.perf_counter() - 8, time.perf_counter() - 100):
        plan_files(paths, tmp_path / "out", PlanOptions(time_limit_s=10), began_s=began_s, solve=watched)
    whole, late, too_late = (limits.time_s for limits in given)
    assert 0 == too_late < late < 2 < whole < 10
    plan_files(paths, tmp_path / "out", PlanOptions(), solve=watched)
    assert given[-1].time_s is None


def test_progress_counts_from_the_start_of_the_job(tmp_path: Path) -> None:
    heard: list[Progress] = []
    paths = queue_from_seed(1).files(tmp_path / "in")
    plan_files(paths, tmp_path / "out", PlanOptions(), heard.append, solve=first_come)
    phases = ["read", "encode", "solve", "bound", "first come", "answers", "write"]
    assert [step.phase for step in heard] == phases
    assert sorted(step.elapsed_s for step in heard) == [step.elapsed_s for step in heard]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"time_limit_s": 0.0}, "--time-limit"),
        ({"time_limit_s": float("nan")}, "--time-limit"),
        ({"work_limit": -1}, "--work-limit"),
        ({"seed": -1}, "--seed"),
        ({"workers": 0}, "--workers"),
        ({"workers": 257}, "--workers"),
        ({"move_cost_micro_usd": -1}, "--move-cost-micro-usd"),
        ({"displaced_bonus_micro_usd": 10**12}, "--displaced-bonus-micro-usd"),
    ],
)
def test_options_out_of_range_are_bad_input(options: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        PlanOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("welfare", "bound", "by_clock", "status"),
    [
        (5, 5, True, PlanStatus.OPTIMAL),
        (0, 0, False, PlanStatus.OPTIMAL),
        (10**12 - 1, 10**12, False, PlanStatus.OPTIMAL),
        (-5, -3, False, PlanStatus.FEASIBLE),
        (4, 5, False, PlanStatus.FEASIBLE),
        (4, 5, True, PlanStatus.TIME_LIMIT),
    ],
)
def test_the_status_is_what_is_proven(welfare: int, bound: int, by_clock: bool, status: PlanStatus) -> None:
    none = np.empty(0, dtype=np.int64)
    assert status_of(Plan(none, none, none, welfare, np.empty(0), bound, None, (), by_clock)) == status


@pytest.mark.parametrize("seed", range(size(20, 40)))
def test_prices_charged_follow_rule_8(seed: int, tmp_path: Path) -> None:
    """docs/planning.md, rule 8, one request after another in Python's integers."""
    random = np.random.default_rng(seed)
    encoded = encoded_of(queue_from_seed(seed, running=0), tmp_path)
    nodes, requests = encoded.node_ids.len(), encoded.request_ids.len()
    scale = random.choice([1.0, 1e6, 1e11])
    gpus = random.integers(1, 100, (requests, nodes))
    rows = [(request, node, int(gpus[request, node])) for request in range(requests) for node in range(nodes)]
    plan = replace(plan_of(encoded.problem, rows), node_price=random.random(nodes) * 3 * scale)
    charges = charge(encoded, plan)
    taken_off, asks = 0, encoded.problem.nodes.ask_micro_usd
    listed = list_prices(asks, plan.node_price)
    for request in range(requests):
        mine = plan.request == request
        given, ask, price = (values[mine].tolist() for values in (plan.gpus, asks[plan.node], listed[plan.node]))
        cap = sum(given) * int(encoded.max_price_micro_usd[request])
        asked, full = dot(given, ask), dot(given, price)
        if asked > cap:
            due = [one * cap // asked for one in ask]
        elif full > cap:
            due = [
                low + (high - low) * (cap - asked) // (full - asked) for low, high in zip(ask, price, strict=True)
            ]
        else:
            due = price
        assert charges.price_micro_usd[mine].tolist() == due and dot(given, due) <= max(cap, 0)
        taken_off += full - dot(given, due)
    assert charges.make_whole_micro_usd_per_hour == taken_off


def dot(counts: list[int], prices: list[int]) -> int:
    return sum(count * price for count, price in zip(counts, prices, strict=True))


def test_tables_keep_their_columns_when_nothing_is_in_them(tmp_path: Path) -> None:
    out = planned(replace(queue_from_seed(0, running=0), requests=[]), tmp_path)
    assert [pl.read_parquet(out / name).height for name in TABLES] == [0, 12, 0, 0]
    assert pl.read_parquet(out / "moves.parquet").columns == list(MOVES_SCHEMA)
