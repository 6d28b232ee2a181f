"""Scenario `trace`: a recorded stream of jobs against supply that comes and goes.

MEASURED: how many jobs come in each hour (Alibaba 2026, 466,867 jobs; the first hour left out, it holds what ran
already); sizes and durations, job by job in their order (Microsoft ITP 2021); when spot nodes went and came back
(Bamboo 2021: AWS p3, GCP V100).
DRAWN, seeded: where in the traces a run begins, the minute within the hour, what a job is worth (LogNormal, median
2 USD, σ 0.5, as in `demand-step`; no trace carries it).
ASSUMED: 1,000 GPUs, which makes a load of about 1.6; half of them firm, a quarter follows each spot fleet; nobody
sells below 0.3 × the median value, the oracle's floor over a reference price.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.backtest.demand_step import MEDIAN_VALUE_MICRO_USD, VALUE_SIGMA
from engine.backtest.scenario import HOUR_S, MICROSECONDS, PARAMETERS, Int, Scenario
from engine.datasets.arrivals import window
from engine.datasets.draws import stream
from engine.datasets.itp import itp_arrivals
from engine.datasets.sources import read_csv, require
from engine.domain.errors import InvalidInput, Violation
from solvers.backtest.dual_path import least_hourly_dual

HOURLY_FILE = "alibaba_spot_2026_aggregates/hourly_summary.csv"
NODES_FILE = "bamboo_spot_preemption_2021/p3-trace.csv"
COUNTS_FILE = "bamboo_spot_preemption_2021/gcloud_v100x1-east1c.txt"
FIRM_SHARE = 0.5
BOUND_STEPS = 400
WINDOW_S = 24 * HOUR_S
"""Longer than the default: half of the GPU-hours of these jobs are in leases of more than a day."""


@dataclass(frozen=True)
class Trace:
    """The scenario on the data of a directory. InvalidInput names files that are missing or broken."""

    data_dir: Path
    gpus: int = 1_000
    days: int = 28

    def draw(self, seed: int) -> Scenario:
        """The scenario of one seed."""
        arrival_us = self._arrivals(seed)
        jobs = window(itp_arrivals(self.data_dir), arrival_us.size, stream(seed, "jobs"))
        drawn = stream(seed, "values").lognormal(math.log(MEDIAN_VALUE_MICRO_USD), VALUE_SIGMA, arrival_us.size)
        value, supply_gpus = np.rint(drawn).astype(np.int64), self._supply(seed)
        ask = round(PARAMETERS.floor_share * MEDIAN_VALUE_MICRO_USD)
        best = _bound_micro_usd(arrival_us, jobs.duration_s, jobs.gpu_count, value - ask, supply_gpus)
        columns = (arrival_us, jobs.duration_s, jobs.gpu_count, value, supply_gpus)
        return Scenario(*columns, ask, (), MEDIAN_VALUE_MICRO_USD, best, WINDOW_S)

    def _arrivals(self, seed: int) -> Int:
        rng, hours = stream(seed, "arrivals"), 24 * self.days
        if hours > self._hourly_jobs.size:
            told = f"must be at most {self._hourly_jobs.size // 24}, the days of {HOURLY_FILE}"
            raise InvalidInput([Violation("days", told)])
        first = 24 * int(rng.integers(0, (self._hourly_jobs.size - hours) // 24 + 1))
        hour = np.repeat(np.arange(hours), self._hourly_jobs[first : first + hours])
        return np.sort(((hour + rng.random(hour.size)) * HOUR_S * MICROSECONDS).astype(np.int64))

    def _supply(self, seed: int) -> Int:
        """GPUs by epoch; both spot histories are repeated, from a drawn place on."""
        epochs = 24 * self.days * HOUR_S * MICROSECONDS // PARAMETERS.epoch_us
        rng, share = stream(seed, "supply"), np.full(epochs, FIRM_SHARE)
        for history in self._spot_histories:
            place = int(rng.integers(0, history.size)) + np.arange(epochs)
            share += (1.0 - FIRM_SHARE) / len(self._spot_histories) * history[place % history.size]
        gpus: Int = np.floor(self.gpus * share).astype(np.int64)
        return gpus

    @cached_property
    def _hourly_jobs(self) -> Int:
        path = self.data_dir / HOURLY_FILE
        frame = read_csv(path, {"submit_hour": pl.Int64(), "jobs": pl.Int64()})
        require(frame, path, "jobs", pl.col("jobs") >= 0, "is not a number of jobs")
        counts = np.zeros(int(frame["submit_hour"].max()) + 1, dtype=np.int64)  # type: ignore[arg-type]
        counts[frame["submit_hour"].to_numpy()] = frame["jobs"].to_numpy()
        return counts[1:]

    @cached_property
    def _spot_histories(self) -> tuple[NDArray[np.float64], ...]:
        return _node_events(self.data_dir / NODES_FILE), _minute_counts(self.data_dir / COUNTS_FILE)


def _node_events(path: Path) -> NDArray[np.float64]:
    """Share of the most nodes ever there, by epoch, from lines of (milliseconds, add or remove, node)."""
    events = read_csv(path, {"ms": pl.Int64(), "change": pl.String()}, header=["ms", "change", "node"])
    require(events, path, "change", pl.col("change").is_in(["add", "remove"]), "is neither add nor remove")
    nodes = np.cumsum(np.where(events["change"].to_numpy() == "add", 1, -1))
    time_us = events["ms"].to_numpy() * 1_000
    epochs = np.arange(int(time_us[-1] // PARAMETERS.epoch_us) + 1) * PARAMETERS.epoch_us
    return np.asarray(nodes[np.searchsorted(time_us, epochs, side="right") - 1] / nodes.max())


def _minute_counts(path: Path) -> NDArray[np.float64]:
    """The same from a line a minute of (date, time, nodes running)."""
    columns: dict[str, pl.DataType] = {"nodes": pl.Int64()}
    counts = read_csv(path, columns, header=["date", "time", "nodes"])["nodes"].to_numpy()
    return np.asarray(counts[:: round(PARAMETERS.epoch_us / (60 * MICROSECONDS))] / counts.max())


def _bound_micro_usd(arrival_us: Int, duration_s: Int, gpus: Int, worth: Int, supply_gpus: Int) -> float:
    """What no policy that starts jobs on arrival can exceed, micro-USD, even if it knew all jobs beforehand.

    Supply of an hour is its mean; after the last arrivals, the mean of the whole run.
    """
    start_h = arrival_us / (HOUR_S * MICROSECONDS)
    end_h = start_h + duration_s / HOUR_S
    per_hour = supply_gpus.reshape(-1, round(1 / PARAMETERS.epoch_h)).mean(axis=1)
    hours = max(int(np.ceil(end_h.max(initial=0.0))), per_hour.size)
    supply = np.concatenate((per_hour, np.full(hours - per_hour.size, per_hour.mean())))
    gangs = (start_h, end_h, gpus.astype(np.float64), worth.astype(np.float64))
    return float(least_hourly_dual(gangs, supply, BOUND_STEPS, float(MEDIAN_VALUE_MICRO_USD)))
