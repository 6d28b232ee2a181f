"""What a planning job says of its plan: the figures of `report.json`."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.planning.plan_files_schema import PlanStatus
from solvers.planning.plan import Plan

if TYPE_CHECKING:
    from engine.planning.encode import Encoded
    from engine.planning.prices_charged import Charges

OPTIMAL_GAP = 1e-9


@dataclass(frozen=True, slots=True)
class Report:
    """One planning job. Money is micro-USD per hour; `gap` is (bound − W)/bound, 0 if equal, None if bound ≤ 0.

    `parameters` and `stronger` stand at the top level of the file; `last` among the parameters names the tables of
    the earlier plan by their SHA-256, wherever they lay. `history`: phase, elapsed_s since the command
    began, welfare and bound as they were known then.
    """

    status: PlanStatus
    requests: int
    requests_served: int
    gpus_placed: int
    welfare_micro_usd_per_hour: int
    bound_micro_usd_per_hour: int
    gap: float | None
    stronger: Mapping[str, Any]
    make_whole_micro_usd_per_hour: int
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    wall_s: float
    phases: Mapping[str, float]
    peak_rss_mb: float
    version: str
    history: tuple[Mapping[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """The object of `report.json`."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain.pop("parameters"), **plain.pop("stronger"), **plain}


def report_on(
    encoded: Encoded,
    plan: Plan,
    charges: Charges,
    *,
    welfare: int,
    contents: Mapping[str, bytes],
    parameters: Mapping[str, Any],
    phases: Mapping[str, float],
    wall_s: float,
    solve_began_s: float,
) -> Report:
    """The report of a plan. `solve_began_s`: seconds from the start of the job to that of the search."""
    return Report(
        status=status_of(plan),
        requests=encoded.request_ids.len(),
        requests_served=int(np.unique(plan.request).size),
        gpus_placed=int(plan.gpus.sum()),
        welfare_micro_usd_per_hour=welfare,
        bound_micro_usd_per_hour=plan.bound,
        gap=plan.gap,
        stronger=_stronger(plan),
        make_whole_micro_usd_per_hour=charges.make_whole_micro_usd_per_hour,
        inputs={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        parameters=parameters,
        wall_s=round(wall_s, 6),
        phases={name: round(seconds, 6) for name, seconds in phases.items()},
        peak_rss_mb=round(peak_rss_mb(), 1),
        version=version("walras"),
        history=tuple(_history(plan, solve_began_s)),
    )


def status_of(plan: Plan) -> PlanStatus:
    """OPTIMAL if the bound proves it; else what ended the search."""
    if plan.gap is not None and plan.gap <= OPTIMAL_GAP:
        return PlanStatus.OPTIMAL
    return PlanStatus.TIME_LIMIT if plan.ended_by_clock else PlanStatus.FEASIBLE


def gap_of(bound: int, welfare: int) -> float | None:
    """(bound − W)/bound, 0 if they are equal, None if the bound is not positive."""
    if bound == welfare:
        return 0.0
    return (bound - welfare) / bound if bound > 0 else None


def peak_rss_mb() -> float:
    """The most memory this process has held, MiB. Workers of a pool are not in it."""
    try:
        # The high-water mark of this program; getrusage also remembers that of the program that started it.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1_024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def _stronger(plan: Plan) -> dict[str, Any]:
    if plan.stronger is None:
        return {}
    return {
        "stronger_bound_micro_usd_per_hour": plan.stronger.micro_usd_per_hour,
        "stronger_gap": gap_of(plan.stronger.micro_usd_per_hour, plan.welfare),
        "stronger_method": plan.stronger.method,
    }


def _history(plan: Plan, began_s: float) -> list[dict[str, Any]]:
    return [{**step._asdict(), "elapsed_s": round(began_s + step.elapsed_s, 6)} for step in plan.history]
