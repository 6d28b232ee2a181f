"""The forward curve: what a GPU-hour costs h hours from now (DESIGN, section 3.3).

f(h) = F + (p − F)·2^(−h / half-life) in hour h = 0, 1, … after the snapshot, rounded half up to the micro-dollar.
A node that asks more costs max(ask, f(h)). A part of an hour costs its fraction.

The one rounding rule: A(t), what one GPU costs from the snapshot to second t, is rounded half up to the
micro-dollar, and any interval costs A(end) − A(start). Sums telescope: splitting or chaining an interval never
changes the total, and n GPUs cost n times one. A never falls, so more hours never cost less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.domain.money import SECONDS_PER_HOUR
from engine.oracle.parameters import OracleParameters

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ForwardCurve:
    """Of one market at one snapshot: posted and long-run price, micro-USD per GPU-hour; half-life in hours."""

    posted_micro_usd_per_gpu_hour: int
    long_run_micro_usd_per_gpu_hour: int
    half_life_h: float

    @classmethod
    def of(cls, posted: int, long_run: int, parameters: OracleParameters) -> ForwardCurve:
        """The curve with the half-life of the parameters."""
        return cls(posted, long_run, parameters.forward_half_life_h)

    def rates(self, hours: int, first: int = 0) -> Int:
        """f of the hours [first, first + hours), micro-USD per GPU-hour, int64."""
        decay = np.exp2(-np.arange(first, first + hours) / self.half_life_h)
        distance = self.posted_micro_usd_per_gpu_hour - self.long_run_micro_usd_per_gpu_hour
        return np.floor(self.long_run_micro_usd_per_gpu_hour + distance * decay + 0.5).astype(np.int64)

    def amounts_micro_usd(self, seconds: Int, ask_micro_usd_per_gpu_hour: int = 0) -> Int:
        """A(t): one GPU's price from the snapshot to each second t >= 0, at max(ask, f(h)); same shape, int64."""
        hour, part = np.divmod(np.asarray(seconds, dtype=np.int64), SECONDS_PER_HOUR)
        rates = np.maximum(self.rates(int(hour.max(initial=0)) + 1), ask_micro_usd_per_gpu_hour)
        whole = np.concatenate(([0], np.cumsum(rates)))[hour]
        rounded: Int = whole + (2 * rates[hour] * part + SECONDS_PER_HOUR) // (2 * SECONDS_PER_HOUR)
        return rounded

    def amount_micro_usd(self, start_s: int, end_s: int, ask_micro_usd_per_gpu_hour: int = 0) -> int:
        """Price of one GPU over the seconds [start, end) after the snapshot, 0 <= start <= end."""
        start, end = self.amounts_micro_usd(np.array([start_s, end_s]), ask_micro_usd_per_gpu_hour).tolist()
        return int(end - start)
