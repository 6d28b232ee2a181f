"""A planning job from checked inputs on: encode, solve, write."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.planning.encode import Encoded, encode
from engine.planning.inputs import Inputs
from engine.planning.job_clock import JobClock
from engine.planning.last_plan import LastPlan
from engine.planning.plan_options import PlanOptions
from engine.planning.prices_charged import charge, list_prices
from engine.planning.report import Report, report_on
from engine.planning.welfare import proven_welfare
from engine.planning.write import parquet, plan_tables, write_report, write_tables
from solvers.planning.plan import Limits, OnProgress, Plan, Start
from solvers.planning.problem import Problem
from solvers.planning.solve import solve
from solvers.planning.warmup import load_kernels

if TYPE_CHECKING:
    from solvers.planning.workers import Searchers

Solve = Callable[[Problem, Limits, OnProgress | None], Plan]

MANY_REQUESTS = 1_000
"""From here on all kernels are loaded beside the encoding; a short queue is planned before they are, by a few."""
WRITING_RESERVE_S = 0.1
"""What is kept of a time limit whatever the sizes: renames, the report, the end of the process."""
WRITING_RESERVE_TIMES = 8
"""Over the time that one column of prices took to compress: five files, refusals and moves to explain."""


def plan_inputs(
    inputs: Inputs,
    out: Path,
    options: PlanOptions,
    clock: JobClock,
    search: Solve | None,
    last: LastPlan | None,
) -> Report:
    """Plan and write, from an earlier plan if there is one; see `engine.planning.batch.plan_files`."""
    start, hashes = last or (None, None)
    with ThreadPoolExecutor(1) as beside:
        if search is None and inputs.requests.height >= MANY_REQUESTS:
            beside.submit(load_kernels, start is not None)  # while names become codes, which takes no kernel
        with clock.phase("encode"):
            encoded = encode(inputs, options.move_cost_micro_usd, options.displaced_bonus_micro_usd)
        limits = Limits(options.work_limit, _search_time_s(encoded, options, clock), options.seed)
        with clock.phase("solve"):
            solve_began_s = clock.elapsed_s()
            solver = search or _solver(options, start)
            plan = solver(encoded.problem, limits, clock.shifted(solve_began_s))
            welfare = proven_welfare(encoded.problem, plan)
    with clock.phase("answers"):
        charges = charge(encoded, plan)
        tables = plan_tables(encoded, plan, charges)
    with clock.phase("write"):
        write_tables(out, tables, inputs.contents)
    report = report_on(
        encoded,
        plan,
        charges,
        welfare=welfare,
        contents=inputs.contents,
        parameters={**asdict(options), "last": hashes},
        phases=clock.phases,
        wall_s=clock.elapsed_s(),
        solve_began_s=solve_began_s,
    )
    write_report(out, report)
    return report


def _search_time_s(encoded: Encoded, options: PlanOptions, clock: JobClock) -> float | None:
    """What is left of the time limit for the search, never below 0; writing is rehearsed to know its share."""
    if options.time_limit_s is None:
        return None
    started_s = clock.elapsed_s()
    asks = encoded.problem.nodes.ask_micro_usd
    parquet(encoded.node_ids.to_frame("node_id").with_columns(price=list_prices(asks, np.sqrt(asks))))
    rehearsal_s = clock.elapsed_s() - started_s
    reserve_s = WRITING_RESERVE_S + WRITING_RESERVE_TIMES * rehearsal_s
    return max(0.0, options.time_limit_s - clock.elapsed_s() - reserve_s)


def _solver(options: PlanOptions, start: Start | None) -> Solve:
    def solve_with_searchers(problem: Problem, limits: Limits, on_progress: OnProgress | None) -> Plan:
        with _searchers(options) as searchers:
            return solve(problem, limits, on_progress, searchers, start=start)

    return solve_with_searchers


def _searchers(options: PlanOptions) -> AbstractContextManager[Searchers | None]:
    """Who searches; None: the solver's own threads."""
    if options.ray is not None:
        from engine.planning.on_ray import OnRay

        return OnRay(options.ray, options.workers)
    if options.workers is not None:
        from solvers.planning.processes import Processes

        return Processes(options.workers)
    return nullcontext()
