"""The results as Markdown, with the machine they were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.deploy import Results
from benchmarks.planning import WELFARE
from benchmarks.registry import SEED, SIZES, Effort, Family, PlanFamily, Size

LIBRARIES = ("grpcio", "protobuf", "numpy", "numba", "ortools", "polars", "sqlalchemy", "msgspec")
DEPLOY_HEADER = (
    "request",
    "fleet",
    "nodes",
    "decision p50",
    "p99",
    "after idle p50",
    "floor p50",
    "call p50",
    "p99",
    "call / (floor + decision) p50",
    "p99",
)
SERVER_HEADER = ("fleet", "ready s", "load s", "peak MiB", "loading", "ready", "under calls")
SERVER_KEYS = ("ready_s", "load_s", "peak_rss_mb", "load_peak_rss_mb", "ready_peak_rss_mb", "calls_peak_rss_mb")
PLAN_HEADER = ("instance", "planner", "welfare, micro-USD/h", "to ours", "gap to our bound", "closed", "s")
OURS = "**walras**"
NOT_APPLICABLE = "n/a"
NO_PLAN = "no plan"


def report(results: Results, families: Sequence[Family], effort: Effort, plans: Sequence[PlanFamily] = ()) -> str:
    """Machine, deploy tables by family, growth, start-up, joint plans."""
    parts = [machine(effort)]
    for family in families:
        rows = [
            _deploy_row(results, family, size, gpus)
            for gpus in family.fleets
            if gpus in effort.fleets
            for size in SIZES
        ]
        if any(NOT_APPLICABLE not in row for row in rows):
            parts.append(f"### `{family.name}`\n\n{table(DEPLOY_HEADER, rows)}")
    growth = [f"`{key}` {value:.3f}" for key, value in results.items() if key.endswith("exponent_fleet")]
    if growth:
        parts.append("Growth of the decision with the fleet: " + ", ".join(growth) + ".")
    servers = sorted({key.split(".")[0] for key in results if key.startswith("server")})
    for server in servers:
        parts.append(f"### `{server}`\n\n{table(SERVER_HEADER, _server_rows(results, server, effort))}")
    rows = [row for family in plans for load in family.loads for row in _plan_rows(results, family.key(load))]
    if rows:
        parts.append(f"### `plan`\n\n{table(PLAN_HEADER, rows)}")
    return "\n\n".join(parts)


def machine(effort: Effort) -> str:
    """Where and with what it ran."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, {versions}; commit {_commit()}; seed {SEED}; "
        f"{effort.rounds} rounds; load of the machine in the end {os.getloadavg()[1]:.1f}."
    )


def _deploy_row(results: Results, family: Family, size: Size, gpus: int) -> tuple[str, ...]:
    prefix = f"{family.name}.{size.gpu_count}@{gpus}."
    head = (f"{size.gpu_count:,}", f"{gpus:,}")
    if f"{prefix}nodes" not in results:
        return (*head, *[NOT_APPLICABLE] * (len(DEPLOY_HEADER) - len(head)))

    def value(name: str, form: str) -> str:
        return format(results[prefix + name], form)

    unit, form = (" µs", ".1f") if size.unit == "us" else (" ms", ".3f")
    return (
        *head,
        value("nodes", ",.0f"),
        *(value(f"decision_{size.unit}_{name}", form) + unit for name in ("p50", "p99")),
        value(f"decision_after_idle_{size.unit}_p50", form) + unit,
        value("floor_ms_p50", ".2f") + " ms",
        *(value(f"call_ms_{name}", ".2f") + " ms" for name in ("p50", "p99")),
        *(value(f"call_over_floor_{name}", ".2f") for name in ("p50", "p99")),
    )


def _server_rows(results: Results, server: str, effort: Effort) -> list[tuple[str, ...]]:
    return [
        (f"{gpus:,}", *(f"{results[f'{server}.{name}@{gpus}']:,.1f}" for name in SERVER_KEYS))
        for gpus in effort.fleets
        if f"{server}.ready_s@{gpus}" in results
    ]


def _plan_rows(results: Results, key: str) -> list[tuple[str, ...]]:
    """Ours and the peers, the best first."""
    names = [name for name in results if name.startswith(f"{key}.") and name.endswith(WELFARE)]
    names.sort(key=lambda name: -results[name])
    return [_plan_row(results, key, name.removesuffix(WELFARE)) for name in names]


def _plan_row(results: Results, key: str, prefix: str) -> tuple[str, ...]:
    """`prefix`: what the keys of one planner begin with."""
    figures = ((WELFARE, ",.0f"), ("welfare_to_ours", ".4f"), ("gap", ".2%"), ("closed", ".1%"), ("wall_s", ".2f"))
    head = (key.removeprefix("plan."), prefix.removeprefix(key).strip(".") or OURS)
    if not results[prefix + WELFARE]:
        return (*head, NO_PLAN, *[NOT_APPLICABLE] * 3, f"{results[prefix + 'wall_s']:.2f}")
    return (
        *head,
        *(
            format(results[prefix + name], form) if prefix + name in results else NOT_APPLICABLE
            for name, form in figures
        ),
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
