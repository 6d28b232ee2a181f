"""One planning job from files to files: read, encode, solve, write.

Reading is polars' work and leaves the interpreter to import the planner meanwhile, which takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.planning.inputs import InputPaths, read_inputs
from engine.planning.job_clock import JobClock
from engine.planning.last_plan import read_last
from engine.planning.plan_directory import open_directory
from engine.planning.plan_options import PlanOptions
from engine.planning.report import Report
from solvers.planning.plan import OnProgress

if TYPE_CHECKING:
    from engine.planning.job import Solve


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
    clock = JobClock(time.perf_counter() if began_s is None else began_s, on_progress)
    earlier = None
    with planner_beside():
        with clock.phase("read"):
            inputs = read_inputs(paths)
            open_directory(out)
        if last is not None:
            with clock.phase("last"):
                earlier = read_last(last, inputs)
    from engine.planning.job import plan_inputs

    return plan_inputs(inputs, out, options, clock, solve, earlier)


@contextmanager
def planner_beside() -> Iterator[None]:
    """The planner is imported by another thread, and is there in the end."""
    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(_ready_planner)
        yield
    ready.result()


def _ready_planner() -> None:
    from solvers.kernel import ready_numba

    ready_numba()
