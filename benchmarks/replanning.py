"""A plan from the last plan, after 1 % of nodes and queue changed, beside planning anew in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks import instances
from benchmarks.planning_run import plan_apart
from engine.planning.encode import encode
from engine.planning.inputs import read_inputs
from engine.planning.last_plan import read_start
from solvers.planning.plan import Limits
from solvers.planning.solve import solve
from solvers.planning.warmup import load_kernels

Made = TypeVar("Made")
NO_LIMITS = Limits()


def measure_replan(instance: instances.Instance, last: Path, place: Path) -> dict[str, float]:
    """Figures of the changed instance planned from the plan in `last`; files are written below `place`.

    `wall_s`: the whole command. `solver_cpu_s`, `solver_s`: of the solver with kernels loaded and the problem in
    memory, as PlanService has it; `solver_cpu_to_full`, `gap_to_full`: over those of solving without a last plan.
    """
    paths = instances.write(instances.changed(instance), place / "changed")
    report = plan_apart(paths, place / "replan", last)
    inputs = read_inputs(paths)
    encoded = encode(inputs, 0, 0)
    start = read_start(last, inputs)
    load_kernels()
    solve(encoded.problem, NO_LIMITS, start=start)
    again, again_cpu_s, again_s = timed(lambda: solve(encoded.problem, NO_LIMITS, start=start))
    full, full_cpu_s, _ = timed(lambda: solve(encoded.problem, NO_LIMITS))
    assert again.welfare == report["welfare_micro_usd_per_hour"], "files and memory give different plans"
    found = {
        "replan_wall_s": report["wall_s"],
        "replan_solver_s": again_s,
        "replan_solver_cpu_s": again_cpu_s,
        "replan_solver_cpu_to_full": again_cpu_s / full_cpu_s,
    }
    if again.gap is not None:
        found["replan_gap"] = again.gap
    if again.gap is not None and full.gap:
        found["replan_gap_to_full"] = again.gap / full.gap
    return found


def timed(make: Callable[[], Made]) -> tuple[Made, float, float]:
    """(what was made, CPU seconds of this process, seconds)."""
    started_cpu_s, started_s = time.process_time(), time.perf_counter()
    made = make()
    return made, time.process_time() - started_cpu_s, time.perf_counter() - started_s
