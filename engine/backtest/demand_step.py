"""Scenario `demand-step`, as DESIGN section 3 fixes it: demand doubles, and falls back.

One market of 5,000 GPUs that never change; Poisson arrivals of gangs; everything is drawn, nothing measured. The
market starts empty, at the clearing price of the first level. Nobody asks for more than 0: all scarcity is demand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.backtest.fluid import FluidMarket
from engine.backtest.scenario import HOUR_S, MICROSECONDS, PARAMETERS, Int, Level, Scenario
from engine.datasets.draws import choose, stream
from engine.domain.errors import InvalidInput, Violation

SIZES, SIZE_WEIGHTS = (1, 2, 4, 8, 16, 32), (0.45, 0.13, 0.15, 0.20, 0.05, 0.02)
MEAN_DURATION_S, DURATION_SIGMA = 4 * HOUR_S, 1.0
MEDIAN_VALUE_MICRO_USD, VALUE_SIGMA = 2_000_000, 0.5
SEEDS = tuple(range(12))


@dataclass(frozen=True, slots=True)
class DemandStep:
    """The scenario's figures; those of DESIGN unless a test wants a shorter one. Days count from 1.

    InvalidInput unless there are days before, during and after the rise.
    """

    gpus: int = 5_000
    load: float = 1.6
    factor: float = 2.0
    days: int = 12
    first_high_day: int = 5
    last_high_day: int = 8

    def __post_init__(self) -> None:
        if not 1 < self.first_high_day <= self.last_high_day < self.days:
            told = f"must be more than {self.last_high_day}, the last day of high demand, which starts after day 1"
            raise InvalidInput([Violation("days", told)])

    @property
    def steps_h(self) -> tuple[tuple[int, int, float], ...]:
        """(first hour, last hour, load) before, during and after the rise."""
        rise_h, fall_h = 24 * (self.first_high_day - 1), 24 * self.last_high_day
        high = self.load * self.factor
        return (0, rise_h, self.load), (rise_h, fall_h, high), (fall_h, 24 * self.days, self.load)

    def draw(self, seed: int) -> Scenario:
        """The scenario of one seed."""
        arrival_us = self._arrivals(seed)
        count = arrival_us.size
        sizes = np.array(SIZES, dtype=np.int64)[choose(stream(seed, "gangs"), SIZE_WEIGHTS, count)]
        mu = math.log(MEAN_DURATION_S) - DURATION_SIGMA**2 / 2
        duration_s = stream(seed, "durations").lognormal(mu, DURATION_SIGMA, count)
        value = stream(seed, "values").lognormal(math.log(MEDIAN_VALUE_MICRO_USD), VALUE_SIGMA, count)
        levels = self.levels()
        return Scenario(
            arrival_us,
            np.maximum(np.rint(duration_s), 1).astype(np.int64),
            sizes,
            np.rint(value).astype(np.int64),
            np.full(24 * self.days * HOUR_S * MICROSECONDS // PARAMETERS.epoch_us, self.gpus, dtype=np.int64),
            0,
            levels,
            levels[0].price_micro_usd_per_gpu_hour,
            self._fluid_welfare_micro_usd(),
        )

    def levels(self) -> tuple[Level, ...]:
        """The hours of each level, with the fluid optimum's price."""
        fluid = self._fluid()
        return tuple(
            Level(first_h, last_h, round(fluid.price(load * self.gpus))) for first_h, last_h, load in self.steps_h
        )

    def _fluid(self) -> FluidMarket:
        return FluidMarket(MEDIAN_VALUE_MICRO_USD, VALUE_SIGMA, PARAMETERS.availability * self.gpus)

    def _fluid_welfare_micro_usd(self) -> float:
        fluid = self._fluid()
        return sum(
            (last_h - first_h) * fluid.welfare_micro_usd_per_hour(load * self.gpus)
            for first_h, last_h, load in self.steps_h
        )

    def _arrivals(self, seed: int) -> Int:
        """Poisson arrivals: the number of each level is drawn, then a uniform time for each."""
        rng = stream(seed, "arrivals")
        mean_gpu_h = float(np.dot(SIZES, SIZE_WEIGHTS)) * MEAN_DURATION_S / HOUR_S
        drawn_h = [
            rng.uniform(first_h, last_h, rng.poisson(load * self.gpus / mean_gpu_h * (last_h - first_h)))
            for first_h, last_h, load in self.steps_h
        ]
        return np.sort((np.concatenate(drawn_h) * (HOUR_S * MICROSECONDS)).astype(np.int64))
