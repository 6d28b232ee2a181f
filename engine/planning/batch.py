"""One planning job from files to files: read, encode, solve, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_PRICE_MICRO_USD_PER_GPU_HOUR
from engine.planning.encode import Encoded, encode
from engine.planning.inputs import InputPaths, read_inputs
from engine.planning.last_plan import read_start
from engine.planning.prices_charged import charge, list_prices
from engine.planning.report import Report, report_on
from engine.planning.welfare import proven_welfare
from engine.planning.write import open_directory, parquet, plan_tables, write_report, write_tables
from solvers.planning.plan import Limits, OnProgress, Plan, Progress, Start
from solvers.planning.problem import Problem

if TYPE_CHECKING:
    from solvers.planning.workers import Searchers

Solve = Callable[[Problem, Limits, OnProgress | None], Plan]

WRITING_RESERVE_S = 0.1
"""What is kept of a time limit whatever the sizes: renames, the report, the end of the process."""
WRITING_RESERVE_TIMES = 8
"""Over the time that one column of prices took to compress: five files, refusals and moves to explain."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How to plan; the report repeats all of it. None: no limit, or the solver's own default.

    `time_limit_s` is for the whole job, reading and writing included. `ray`: address of a cluster, or "local";
    `workers`: processes of this machine, None for threads. Costs and bonuses are micro-USD per GPU.
    """

    time_limit_s: float | None = None
    work_limit: int | None = None
    seed: int = 0
    move_cost_micro_usd: int = 100_000
    displaced_bonus_micro_usd: int = 1_000_000
    ray: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Raise InvalidInput for every option out of range."""
        checks = (
            ("time-limit", self.time_limit_s is None or 0 < self.time_limit_s < float("inf"), "must be above 0"),
            ("work-limit", self.work_limit is None or self.work_limit >= 0, "must not be negative"),
            ("seed", 0 <= self.seed < 2**63, "must be between 0 and 2^63 - 1"),
            ("workers", self.workers is None or self.workers >= 1, "must be at least 1"),
            ("move-cost-micro-usd", _is_price(self.move_cost_micro_usd), _PRICE_RULE),
            ("displaced-bonus-micro-usd", _is_price(self.displaced_bonus_micro_usd), _PRICE_RULE),
        )
        violations = [Violation(f"--{name}", rule) for name, holds, rule in checks if not holds]
        if violations:
            raise InvalidInput(violations)


def plan_files(
    paths: InputPaths,
    out: Path,
    options: PlanOptions,
    on_progress: OnProgress | None = None,
    *,
    began_s: float | None = None,
    solve: Solve | None = None,
    last: Path | None = None,
) -> Report:
    """Plan the files and write the plan to `out`, which is made if needed; the report that was written.

    `began_s`: the reading of `time.perf_counter` at which the job, and its time limit, began. `solve`: the search,
    by default that of `solvers.planning`, which starts from the earlier plan in the directory `last`, if given.
    Raises InvalidInput with every violation of all files, OSError if `out` cannot be written, and AuditFailed,
    leaving `out` as it is, if the solver's figures do not add up.
    """
    clock = _Clock(time.perf_counter() if began_s is None else began_s, on_progress)
    with clock.phase("read"):
        inputs = read_inputs(paths)
        open_directory(out)
    with clock.phase("encode"):
        encoded = encode(inputs, options.move_cost_micro_usd, options.displaced_bonus_micro_usd)
    start = None
    if last is not None:
        with clock.phase("last"):
            start = read_start(last, inputs, encoded)
    search = solve or _solver(options, start)
    limits = Limits(options.work_limit, _search_time_s(encoded, options, clock), options.seed)
    with clock.phase("solve"):
        solve_began_s = clock.elapsed_s()
        plan = search(encoded.problem, limits, clock.shifted(solve_began_s))
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
        parameters=asdict(options),
        phases=clock.phases,
        wall_s=clock.elapsed_s(),
        solve_began_s=solve_began_s,
    )
    write_report(out, report)
    return report


@dataclass(slots=True)
class _Clock:
    """Seconds since the job began, and what each phase took."""

    began_s: float
    on_progress: OnProgress | None
    phases: dict[str, float] = field(default_factory=dict)

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.began_s

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started_s = self.elapsed_s()
        if self.on_progress is not None:
            self.on_progress(Progress(name, started_s, None, None))
        yield
        self.phases[name] = self.elapsed_s() - started_s

    def shifted(self, by_s: float) -> OnProgress | None:
        """The listener, told seconds since the job began by a search that counts from its own start."""
        listener = self.on_progress
        if listener is None:
            return None
        return lambda step: listener(step._replace(elapsed_s=step.elapsed_s + by_s))


def _search_time_s(encoded: Encoded, options: PlanOptions, clock: _Clock) -> float | None:
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
    # Imported here: compiling and loading its kernels takes longer than finding out that a file is broken.
    from solvers.planning.solve import solve

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


_PRICE_RULE = f"must be between 0 and {MAX_PRICE_MICRO_USD_PER_GPU_HOUR:,}"


def _is_price(micro_usd: int) -> bool:
    return 0 <= micro_usd <= MAX_PRICE_MICRO_USD_PER_GPU_HOUR
