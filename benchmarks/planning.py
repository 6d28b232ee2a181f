"""Joint planning: `walras plan` from files to files in a process of its own, then the peers on the same problem.

The peers start from the encoded problem and their kernels are compiled before the clock runs; our time covers the
whole command. Every plan, ours included, is scored by `peers.score`; gaps are to the bound of our certificate.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import instances
from benchmarks.peers.lineup import FIRST_COME, GENERAL_SOLVERS, PEERS, Peer
from benchmarks.peers.score import checked_welfare
from benchmarks.planning_run import plan_apart
from benchmarks.registry import (
    MIP_LIMIT_S,
    MIP_LOAD,
    MIP_TIMES,
    SMALL_PLAN_FLEET,
    SMALL_PLAN_REQUESTS,
    Effort,
    PlanFamily,
)
from benchmarks.replanning import measure_replan
from engine.planning.encode import Encoded, encode
from engine.planning.inputs import read_inputs
from solvers.planning.moves import Placed
from solvers.planning.problem import Problem

Results = dict[str, float]
WELFARE = "welfare_micro_usd_per_hour"
REPORTED = ("peak_rss_mb", "requests_served", "stronger_gap")
WARM_UP_LOAD = 0.9


@dataclass(frozen=True, slots=True)
class Outcome:
    """One plan of one planner."""

    welfare_micro_usd_per_hour: int
    wall_s: float


def instance_of(family: PlanFamily, load: float, data_dir: Path | None) -> instances.Instance:
    """Draw the instance; `data_dir` is needed for the real one."""
    if family.world == "real":
        assert data_dir is not None
        return instances.real(load, data_dir, family.requests, family.fleet)
    return instances.standard(load, family.requests, family.fleet)


def measure_plan(family: PlanFamily, load: float, data_dir: Path | None, effort: Effort) -> Results:
    """All figures of one family at one load, by their keys."""
    with tempfile.TemporaryDirectory(prefix="walras-bench-") as place:
        instance = instance_of(family, load, data_dir)
        paths = instances.write(instance, Path(place))
        out = Path(place) / "plan"
        report = plan_apart(paths, out)
        encoded = encode(read_inputs(paths), 0, 0)
        ours = checked_welfare(encoded.problem, rows_of(encoded, out))
        replan = {} if family.alone else measure_replan(instance, out, Path(place))
    assert ours == report["welfare_micro_usd_per_hour"], "the report and the scorer disagree"
    general = effort.general_solvers and load == MIP_LOAD
    outcomes = {} if family.alone else peer_outcomes(encoded.problem, report["wall_s"], general)
    key = family.key(load)
    return {f"{key}.{name}": value for name, value in {**figures(report, outcomes), **replan}.items()}


def rows_of(encoded: Encoded, out: Path) -> Placed:
    """The placements of a written plan, by number."""
    plan = pl.read_parquet(out / "plan.parquet")
    columns = []
    for name, ids in (("request_id", encoded.request_ids), ("node_id", encoded.node_ids)):
        numbers = pl.DataFrame({name: ids}).with_row_index("number")
        columns.append(plan.select(name).join(numbers, on=name, how="left", maintain_order="left")["number"])
    request, node = (column.cast(pl.Int64).to_numpy() for column in columns)
    return Placed(request, node, plan["gpus"].to_numpy())


def peer_outcomes(problem: Problem, our_s: float, general: bool) -> dict[str, Outcome]:
    """Every peer's outcome. General solvers get MIP_TIMES our time, the others need what they need."""
    mip_s = min(MIP_TIMES * our_s, MIP_LIMIT_S)
    outcomes = {name: _timed(peer, problem, our_s) for name, peer in PEERS.items()}
    if general:
        outcomes |= {name: _timed(peer, problem, mip_s) for name, peer in GENERAL_SOLVERS.items()}
    return outcomes


def warm_up() -> None:
    """Plan a small instance with everyone, so that no kernel is compiled while a clock runs."""
    small = instances.standard(WARM_UP_LOAD, SMALL_PLAN_REQUESTS, SMALL_PLAN_FLEET)
    with tempfile.TemporaryDirectory(prefix="walras-bench-") as place:
        plan_apart(instances.write(small, Path(place)), Path(place) / "plan")
    problem = encode(small.inputs(), 0, 0).problem
    for peer in PEERS.values():
        peer(problem, 1.0)


def figures(report: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Results:
    """Ours, and each peer's as `peer.quantity`; what is unknown is left out.

    `gap`: to our bound; `closed`: (W − W_first-come)/(bound − W_first-come); `welfare_to_ours`: W over our W.
    """
    bound = report["bound_micro_usd_per_hour"]
    ours = Outcome(report["welfare_micro_usd_per_hour"], report["wall_s"])
    base = outcomes[FIRST_COME].welfare_micro_usd_per_hour if FIRST_COME in outcomes else bound
    found: Results = {"bound_micro_usd_per_hour": float(bound)}
    found |= {name: float(report[name]) for name in REPORTED if report.get(name) is not None}
    found |= {f"{phase}_s": float(seconds) for phase, seconds in report["phases"].items()}
    for prefix, outcome in {"": ours, **{f"{name}.": outcome for name, outcome in outcomes.items()}}.items():
        welfare = outcome.welfare_micro_usd_per_hour
        found |= {f"{prefix}{WELFARE}": float(welfare), f"{prefix}wall_s": outcome.wall_s}
        if bound > 0:
            found[f"{prefix}gap"] = (bound - welfare) / bound
        if bound > base:
            found[f"{prefix}closed"] = (welfare - base) / (bound - base)
        if ours.welfare_micro_usd_per_hour > 0:
            found[f"{prefix}welfare_to_ours"] = welfare / ours.welfare_micro_usd_per_hour
    return found


def _timed(peer: Peer, problem: Problem, limit_s: float) -> Outcome:
    started = time.perf_counter()
    placed = peer(problem, limit_s)
    wall_s = time.perf_counter() - started
    return Outcome(checked_welfare(problem, placed), wall_s)
