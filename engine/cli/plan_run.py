"""The work of `walras plan`: check the command line, plan, show how it goes and what came out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engine.cli.amounts import usd
from engine.cli.plan_screen import watching
from engine.cli.screen import answers, print_json, remarks
from engine.cli.text_table import pair_table
from engine.domain.errors import InvalidInput, Violation
from engine.planning.batch import plan_files
from engine.planning.inputs import InputPaths
from engine.planning.plan_options import PlanOptions
from engine.planning.report import Report


@dataclass(frozen=True, slots=True)
class PlanArguments:
    """The files of a command line; the three that a plan needs may still be missing."""

    fleet: Path | None
    requests: Path | None
    rtt: Path | None
    placements: Path | None
    out: Path | None
    last: Path | None = None


def run_plan(arguments: PlanArguments, options: dict[str, Any], as_json: bool, began_s: float) -> None:
    """Plan and print the report. `began_s`: when the command began, as `time.perf_counter` reads."""
    paths, out = _paths(arguments)
    checked = PlanOptions(**options)
    with watching(remarks(), checked.time_limit_s) as on_progress:
        report = plan_files(paths, out, checked, on_progress, began_s=began_s, last=arguments.last)
    if as_json:
        print_json(report.as_json())
    else:
        answers().print(pair_table(f"plan written to {out}", report_rows(report)))


def report_rows(report: Report) -> list[tuple[str, str]]:
    """The report for people."""
    rows = [
        ("status", report.status.value),
        ("requests served", f"{report.requests_served:,} of {report.requests:,}"),
        ("GPUs placed", f"{report.gpus_placed:,}"),
        ("welfare", f"{usd(report.welfare_micro_usd_per_hour)} an hour"),
        ("proven bound", f"{usd(report.bound_micro_usd_per_hour)} an hour"),
        ("gap", gap_text(report.gap)),
    ]
    if report.stronger:
        method = report.stronger["stronger_method"]
        rows.append((f"gap to the bound by {method}", gap_text(report.stronger["stronger_gap"])))
    phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.phases.items())
    return [*rows, ("time", f"{report.wall_s:.2f} s ({phases})"), ("memory", f"{report.peak_rss_mb:,.0f} MiB")]


def gap_text(gap: float | None) -> str:
    """A gap in percent; a dash where the bound is not positive."""
    return "-" if gap is None else f"{100 * gap:.4f} %"


def _paths(arguments: PlanArguments) -> tuple[InputPaths, Path]:
    needed = ("fleet", "requests", "out")
    missing = [field.name for field in fields(arguments) if getattr(arguments, field.name) is None]
    violations = [Violation(f"--{name}", "is required") for name in needed if name in missing]
    fleet, requests, out = arguments.fleet, arguments.requests, arguments.out
    if fleet is None or requests is None or out is None:
        raise InvalidInput(violations)
    return InputPaths(fleet, requests, arguments.rtt, arguments.placements), out
