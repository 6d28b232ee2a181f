"""How costs grow: exponents b of cost ∝ size^b, by least squares in logarithms, over whatever sizes were measured.

Read from the flat results: one rule an exponent, so a new family needs one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks.registry import FLEETS, LARGEST_FLEET, SIZES
from benchmarks.statistics import exponent

Results = Mapping[str, float]


class Growth(NamedTuple):
    """One fitted line. `points`: size to cost, as measured."""

    key: str
    of: str
    against: str
    points: dict[int, float]

    @property
    def exponent(self) -> float:
        """b of cost ∝ size^b."""
        return exponent(self.points)


def growths(results: Results) -> list[Growth]:
    """All that have two sizes at least."""
    return [each for each in _all(results) if len(each.points) > 1]


def exponents(results: Results) -> dict[str, float]:
    """Their exponents, by key."""
    return {f"growth.{each.key}": each.exponent for each in growths(results)}


def _all(results: Results) -> Iterator[Growth]:
    for size in SIZES:
        gpus = f"{size.gpu_count:,} GPUs"
        for name, of in ((f"decision_{size.unit}_p50", "decision"), ("call_ms_p50", "whole call")):
            keys = {fleet: f"deploy.{size.gpu_count}@{fleet}.{name}" for fleet in FLEETS}
            key = f"{of.replace(' ', '_')}.{size.gpu_count}_against_fleet"
            yield Growth(key, f"{of}, {gpus}", "fleet, GPUs", _known(results, keys))
    decisions = {size.gpu_count: f"deploy.{size.gpu_count}@{LARGEST_FLEET}.decision_" for size in SIZES}
    known = {
        gpus: results[f"{key}us_p50"] if f"{key}us_p50" in results else 1e3 * results[f"{key}ms_p50"]
        for gpus, key in decisions.items()
        if f"{key}us_p50" in results or f"{key}ms_p50" in results
    }
    yield Growth("decision_against_request", "decision, µs", "request, GPUs", known)
    for name, of in (("ready_s", "start with the fleet in the journal"), ("peak_rss_mb", "peak memory")):
        keys = {fleet: f"server.{name}@{fleet}" for fleet in FLEETS}
        yield Growth(f"{name}_against_fleet", of, "fleet, GPUs", _known(results, keys))
    plans = {10_000: "plan.standard.load_0.9.solve_s", 100_000: "plan.standard_100000.load_0.9.solve_s"}
    yield Growth("plan_against_requests", "joint planning, search", "requests", _known(results, plans))


def _known(results: Results, keys: Mapping[int, str]) -> dict[int, float]:
    return {size: results[key] for size, key in keys.items() if results.get(key, 0.0) > 0}
