"""Arrivals: when requests come, how many GPUs they want and for how long. All that job traces carry.

The synthetic stream takes its sizes from Microsoft's ITP trace of 2021 (63,944 jobs of the eight clusters kept
here; microsoft/elasticflow-traces @ 277ed24, MIT), which are FACT. ASSUMED: Poisson arrivals over four hours,
and lognormal durations of mean 4 h and σ 1, as in the `demand-step` scenario.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.datasets.draws import IntArray, choose

FIRST_ARRIVAL_US = 1_780_272_000_000_000
"""2026-06-01T00:00:00Z, microseconds since the epoch: every stream is moved to start here."""
MICROSECONDS = 1_000_000

ITP_JOBS_BY_SIZE: dict[int, int] = {1: 55_595, 2: 1_392, 4: 2_223, 8: 4_150, 16: 228, 32: 310, 64: 46}
"""Jobs of the ITP trace by number of GPUs."""
WINDOW_S = 4 * 3_600
MEAN_DURATION_S = 4 * 3_600
DURATION_SIGMA = 1.0
SHORTEST_S = 60


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Columns, one entry a request, in order of time."""

    submitted_at_us: IntArray
    duration_s: IntArray
    gpu_count: IntArray

    def take(self, index: IntArray) -> Arrivals:
        """The arrivals at these positions."""
        return Arrivals(self.submitted_at_us[index], self.duration_s[index], self.gpu_count[index])

    @property
    def count(self) -> int:
        """Number of arrivals."""
        return int(self.gpu_count.size)


def in_time_order(submitted_at_us: IntArray, duration_s: IntArray, gpu_count: IntArray) -> Arrivals:
    """Sort by time; ties keep the order they came in."""
    return Arrivals(submitted_at_us, duration_s, gpu_count).take(np.argsort(submitted_at_us, kind="stable"))


def synthetic_arrivals(count: int, rng: np.random.Generator) -> Arrivals:
    """Draw a stream of `count` arrivals; sizes are 1 to 64 GPUs, powers of two."""
    sizes = np.array(list(ITP_JOBS_BY_SIZE), dtype=np.int64)
    drawn = sizes[choose(rng, list(ITP_JOBS_BY_SIZE.values()), count)]
    offset_us = (rng.random(count) * WINDOW_S * MICROSECONDS).astype(np.int64)
    median_s = MEAN_DURATION_S * np.exp(-(DURATION_SIGMA**2) / 2)
    duration_s = np.rint(rng.lognormal(np.log(median_s), DURATION_SIGMA, count)).astype(np.int64)
    return in_time_order(FIRST_ARRIVAL_US + offset_us, np.maximum(duration_s, SHORTEST_S), drawn)


def merged(streams: list[Arrivals]) -> Arrivals:
    """Several streams as one, by time; ties in the order of the list."""
    return in_time_order(
        np.concatenate([stream.submitted_at_us for stream in streams]),
        np.concatenate([stream.duration_s for stream in streams]),
        np.concatenate([stream.gpu_count for stream in streams]),
    )


def window(arrivals: Arrivals, count: int, rng: np.random.Generator) -> Arrivals:
    """`count` consecutive arrivals from a drawn start, so that bursts survive, moved to FIRST_ARRIVAL_US.

    A stream that is too short is repeated, each pass after the other.
    """
    start = int(rng.integers(0, max(arrivals.count - count, 0) + 1))
    position = start + np.arange(count, dtype=np.int64)
    passes, index = np.divmod(position, arrivals.count)
    span_us = arrivals.submitted_at_us[-1] - arrivals.submitted_at_us[0] + MICROSECONDS
    taken = arrivals.take(index)
    time_us = taken.submitted_at_us + passes * span_us
    moved = time_us - time_us[0] + FIRST_ARRIVAL_US if count else time_us
    return Arrivals(moved, taken.duration_s, taken.gpu_count)
