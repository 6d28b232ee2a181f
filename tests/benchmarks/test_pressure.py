"""Throughput, epochs, overload and the trace run once, small; no figure is judged but that they fit together."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from benchmarks.day import Day, figures, jobs_of, measure_day
from benchmarks.other_suites import run_pressure
from benchmarks.pressure import Tally
from benchmarks.registry import DAY_BEGINS_H, SMALL, SMALL_FLEET, SPEED
from benchmarks.throughput import recovered_s

NAMED = Path(os.environ.get("WALRAS_DATA") or "unset")
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def results() -> dict[str, float]:
    return run_pressure(replace(SMALL, overload_s=0.3))


def test_every_family_under_pressure_has_its_figures(results: dict[str, float]) -> None:
    wanted = {
        "throughput.unary_per_s",
        "throughput.unary_over_echo",
        "throughput.unary_over_floor",
        "throughput.batch_placements_per_s",
        "throughput.mixed_batch_placements_per_s",
        "overload.goodput_share",
        "overload.open.goodput_share",
        "epoch.s_max",
        "epoch.p99_ratio",
    }
    assert wanted <= results.keys()
    assert all(results[name] > 0 for name in wanted if not name.startswith("overload.open"))


def test_unary_deploys_were_served_by_one_client(results: dict[str, float]) -> None:
    assert results["throughput.unary.1_clients.per_s"] > 0
    assert results["throughput.batch.1_streams.failed"] == 0
    assert not [name for name in results if name.startswith("throughput.unary.1_clients.failed")]


@pytest.mark.skipif(not NAMED.is_dir(), reason="WALRAS_DATA names no directory: the public data is not at hand")
def test_the_trace_is_replayed() -> None:
    found = measure_day(0.2, replace(SMALL, fleets=(SMALL_FLEET,)), NAMED, speed=7_200.0)
    assert found["day.0.2h.jobs"] > 0
    assert 0 <= found["day.0.2h.stranded_share"] <= 1
    assert 0 <= found["day.0.2h.utilisation_mean"] <= 1


def test_jobs_come_in_time_and_those_that_run_already_come_before() -> None:
    begins = DAY_BEGINS_H * HOUR_US
    queue = pl.DataFrame(
        {
            "submitted_at_us": [0, 60_000_000, begins - HOUR_US, begins + HOUR_US, begins + 9 * HOUR_US],
            "duration_s": [1, 60, 7_200, 600, 600],
            "gpu_count": [1, 2, 4, 8, 16],
        }
    )
    jobs = jobs_of(queue, 2.0)
    assert [job.message.gpu_count for job in jobs] == [4, 8]
    assert [job.due_s for job in jobs] == [-3_600 / SPEED, 3_600 / SPEED]
    assert [job.message.duration_s for job in jobs] == [3_600 // SPEED, 600 // SPEED]


def test_shares_of_a_day_are_of_its_jobs() -> None:
    day = Day([1.0, 2.0, 3.0, 4.0], Counter({"PRICE": 1}), [2e6, 4e6], [0.5])
    found = figures(day)
    assert found["refused_share"] == found["refused.price"] == 0.25
    assert found["price_usd_per_gpu_hour_mean"] == 3.0


def test_calls_told_to_come_back_are_not_missed() -> None:
    tally = Tally(latency_ms=[1.0] * 6, sent=10, failed=Counter({"RESOURCE_EXHAUSTED": 2, "DEADLINE_EXCEEDED": 2}))
    assert tally.missed_share == 0.25


def test_a_server_is_back_once_a_window_is_full_enough() -> None:
    after = Tally(latency_ms=[1.0] * 4, at_s=[0.2, 1.1, 1.2, 1.3], seconds=2.0)
    assert recovered_s(after, 6.0) == 1.5
    assert recovered_s(after, 8.0) is None
