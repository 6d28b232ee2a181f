"""RESULTS.md: answers for a reader in a hurry beside what was asked for, then pictures, then all tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.charts import chart
from benchmarks.growth import growths
from benchmarks.peers.lineup import GENERAL_SOLVERS, PEERS
from benchmarks.planning import WELFARE
from benchmarks.registry import FAMILIES, FLEETS, PLAN_FAMILIES, SIZES, Effort
from benchmarks.report import machine, report, table

Results = Mapping[str, float]
FIGURES = "figures"
BUSY = 1.5
"""Load beyond the cores: our server and its clients keep them busy by themselves."""
FLAT_FAMILIES = ("throughput", "overload", "epoch", "day")


class Answer(NamedTuple):
    """One line of the first table: a key of the results, how it is read, and the least or most that was asked."""

    question: str
    key: str
    form: str
    most: float | None = None
    least: float | None = None

    def row(self, results: Results) -> tuple[str, ...]:
        """Question, measured, asked, and whether that is met."""
        value = results[self.key]
        asked = f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}" if self.least else ""
        met = (self.most is None or value <= self.most) and (self.least is None or value >= self.least)
        return self.question, self.form.format(value), asked, ("yes" if met else "**no**") if asked else ""


TARGETS = (
    Answer("Decide 8 of 1M GPUs", "deploy.8@1000000.decision_us_p50", "{:.0f} µs"),
    Answer("Decide 10,000 of 1M GPUs", "deploy.10000@1000000.decision_ms_p50", "{:.2f} ms"),
    Answer("Whole call for 10,000 GPUs, durable", "deploy.10000@1000000.call_ms_p50", "{:.1f} ms"),
    Answer("… over (floor + decision), p50", "deploy.10000@1000000.call_over_floor_p50", "{:.2f}", most=1.5),
    Answer("… p99", "deploy.10000@1000000.call_over_floor_p99", "{:.2f}", most=2.0),
    Answer("Growth of the decision with the fleet", "deploy.decision_exponent_fleet", "{:.3f}", most=0.3),
    Answer("Durable deploys a second, most", "throughput.unary_per_s", "{:,.0f}"),
    Answer("… the server's CPU time for one, ms", "throughput.unary_cpu_ms", "{:.2f}"),
    Answer("… and under ten times the clients, per answer", "overload.cpu_ms_per_answer", "{:.2f}"),
    Answer("… over the same without decision and disk", "throughput.unary_over_echo", "{:.2f}"),
    Answer("… over the same without decision", "throughput.unary_over_floor", "{:.2f}", least=0.7),
    Answer(
        "Durable placements of 1 GPU a second, in batches",
        "throughput.batch_placements_per_s",
        "{:,.0f}",
        least=20_000,
    ),
    Answer("… in messages of four models mixed", "throughput.mixed_batch_placements_per_s", "{:,.0f}"),
    Answer("Goodput at 10× the clients", "overload.goodput_share", "{:.2f}", least=0.7),
    Answer("… calls accepted and not answered in time", "overload.missed_share", "{:.3f}", most=0.01),
    Answer("Goodput at 10× the rate", "overload.open.goodput_share", "{:.2f}", least=0.5),
    Answer("… rate that our client could offer, × peak", "overload.open.offered_over_peak", "{:.1f}"),
    Answer("… back after, s", "overload.open.recovery_s", "{:.1f}", most=5.0),
    Answer("An epoch of the oracle, s", "epoch.s_max", "{:.2f}", most=5.0),
    Answer("… p99 of deploys beside it over without", "epoch.p99_ratio", "{:.2f}", most=1.5),
    Answer("Ready with 1M GPUs in the journal, s", "server.ready_s@1000000", "{:.1f}"),
    Answer("Peak memory with 1M GPUs, MiB", "server.peak_rss_mb@1000000", "{:,.0f}"),
    *(
        Answer(f"Joint plan, {world}, load {load}: gap", f"plan.{world}.load_{load}.gap", "{:.2%}", most=most)
        for world in ("real", "standard")
        for load, most in ((0.5, 0.005), (0.9, 0.005), (1.3, 0.015))
    ),
    *(
        Answer(f"{told}, {world}, load 0.9, s", f"plan.{world}.load_0.9.{key}", "{:.1f}", most=most)
        for world in ("real", "standard")
        for told, key, most in (
            ("… files to plan", "wall_s", 5.0),
            ("… from the last plan after a change of 1 %", "replan_wall_s", 0.5),
            ("… of it solving, in memory", "replan_solver_s", None),
        )
    ),
    Answer("Joint plan of 100,000 requests, s", "plan.standard_100000.load_0.9.wall_s", "{:.0f}", most=60.0),
    Answer("… gap", "plan.standard_100000.load_0.9.gap", "{:.2%}", most=0.005),
)


def page(results: Results, effort: Effort, runs: Mapping[str, str]) -> str:
    """The page. What was not measured is not in it. `runs`: where each kind was measured, `provenance` of then."""
    rows = [answer.row(results) for answer in TARGETS if answer.key in results]
    parts = ["# Results", "\n".join(f"- `{kind}`: {where}" for kind, where in runs.items()), "## In a hurry"]
    parts.append(table(("", "measured", "asked", "met"), rows))
    beaten = _beaten(results)
    if beaten:
        parts += ["## Who is beaten by how much", table(("instance", "planner", "our welfare over its"), beaten)]
    grown = [(each.of, each.against, f"{each.exponent:.3f}") for each in growths(results)]
    if grown:
        parts += ["## How it grows", table(("cost", "against", "exponent"), grown)]
    parts += [f"![{name}]({FIGURES}/{name}.svg)" for name in sorted(_charts(results, ""))]
    parts += ["## All tables", _tables(results, effort)]
    parts += [f"### `{family}`\n\n{_flat(results, family)}" for family in FLAT_FAMILIES]
    return "\n\n".join(part for part in parts if part and not part.endswith("\n\n")) + "\n"


def provenance(effort: Effort) -> str:
    """Machine, versions, commit, seed, and a warning if it was busy; to be noted when something is measured."""
    load, cores = os.getloadavg()[1], os.cpu_count() or 1
    if load <= cores + BUSY:
        return machine(effort)
    busy = (
        f"**Not a quiet machine**: {load:.0f} processes wanted its {cores} cores. Times, rates and all that has a"
    )
    return (
        f"{machine(effort)} {busy} deadline say more about them than about us; ratios of one turn say something."
    )


def write_page(results: Results, effort: Effort, runs: Mapping[str, str], directory: Path) -> None:
    """RESULTS.md and its figures into `directory`."""
    (directory / "RESULTS.md").write_text(page(results, effort, runs))
    (directory / FIGURES).mkdir(exist_ok=True)
    for name, picture in _charts(results, " · ".join(runs.values())).items():
        (directory / FIGURES / f"{name}.svg").write_text(picture)


def _charts(results: Results, caption: str) -> dict[str, str]:
    decision, call = (
        {
            f"{size.gpu_count:,} GPUs": _line(results, FLEETS, f"deploy.{size.gpu_count}@{{}}.{name}", scale)
            for size in SIZES
            for name, scale in names(size.unit)
        }
        for names in (
            lambda unit: [(f"decision_{unit}_p50", 1.0 if unit == "us" else 1e3)],
            lambda unit: [("call_ms_p50", 1.0)],
        )
    )
    unary = [key.split(".")[2] for key in results if key.startswith("throughput.unary.")]
    clients = sorted({int(name.removesuffix("_clients")) for name in unary})
    rates = {
        name: _line(results, clients, f"throughput.{name}.{{}}_clients.per_s", 1.0)
        for name in ("unary", "floor", "echo")
    }
    memory = {"peak": _line(results, FLEETS, "server.peak_rss_mb@{}", 1.0)}
    drawn = {
        "decision": ("Decision against fleet", "GPUs in the fleet", "µs, p50", decision),
        "call": ("Whole durable call against fleet", "GPUs in the fleet", "ms, p50", call),
        "throughput": ("Calls a second against clients", "clients", "calls/s", rates),
        "memory": ("Memory of the server", "GPUs in the fleet", "MiB", memory),
    }
    found = {}
    for name, (title, across, up, lines) in drawn.items():
        known = {each: line for each, line in lines.items() if line}
        if any(len(line) > 1 for line in known.values()):
            found[name] = chart(title, across, up, known, caption[:150])
    return found


def _line(results: Results, sizes: Sequence[int], key: str, scale: float) -> dict[float, float]:
    known = {size: results.get(key.format(size), 0.0) for size in sizes}
    return {float(size): value * scale for size, value in known.items() if value > 0}


def _tables(results: Results, effort: Effort) -> str:
    """The tables of the report without its first line, which tells of the present and not of the runs."""
    return report(dict(results), FAMILIES, effort, PLAN_FAMILIES).partition("\n\n")[2]


def _beaten(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key in (family.key(load) for family in PLAN_FAMILIES for load in family.loads):
        ours = results.get(f"{key}.{WELFARE}", 0.0)
        for peer in (*PEERS, *GENERAL_SOLVERS):
            theirs = results.get(f"{key}.{peer}.{WELFARE}")
            if ours > 0 and theirs is not None:
                rows.append((key.removeprefix("plan."), peer, _over(ours, theirs)))
    return rows


def _over(ours: float, theirs: float) -> str:
    if theirs <= 0:
        return "it found no plan"
    return f"{ours / theirs - 1:+.2%}" + (" **behind**" if ours < theirs else "")


def _flat(results: Results, family: str) -> str:
    rows = [(key, f"{value:,.3f}") for key, value in sorted(results.items()) if key.startswith(f"{family}.")]
    return table(("", "measured"), rows) if rows else ""
