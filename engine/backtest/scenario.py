"""What is played: gangs by time of arrival, GPUs by epoch, and what is known of the best possible outcome."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import InvalidInput, Violation
from engine.oracle.parameters import OracleParameters

Int = NDArray[np.int64]
MICROSECONDS = 1_000_000
HOUR_S = 3_600

PARAMETERS = OracleParameters()
"""What all scenarios are played with: epoch, window, η and the `oracle` policy's own rule."""


@dataclass(frozen=True, slots=True)
class Level:
    """Hours [first_h, last_h) of constant demand, and the clearing price of their fluid optimum."""

    first_h: int
    last_h: int
    price_micro_usd_per_gpu_hour: int


@dataclass(frozen=True)
class Scenario:
    """One market, seeded. InvalidInput names columns that differ in length or are out of order.

    Columns (gangs,) int64: `arrival_us` since the start, ascending; `duration_s`, `gpus`, all > 0;
    `value_micro_usd_per_gpu_hour`. `supply_gpus` (epochs,): from the start of each epoch; nobody sells below the
    ask, and no price is posted below it. `levels` is empty where demand has no steps. `best_welfare_micro_usd`:
    what the share of welfare is taken of. `window_s`: arrivals of so many seconds are the demand of an epoch.
    """

    arrival_us: Int
    duration_s: Int
    gpus: Int
    value_micro_usd_per_gpu_hour: Int
    supply_gpus: Int
    ask_micro_usd_per_gpu_hour: int
    levels: tuple[Level, ...]
    start_price_micro_usd_per_gpu_hour: int
    best_welfare_micro_usd: float
    window_s: int = PARAMETERS.window_s

    def __post_init__(self) -> None:
        columns = (self.arrival_us, self.duration_s, self.gpus, self.value_micro_usd_per_gpu_hour)
        found = []
        if len({column.size for column in columns}) > 1:
            found.append(Violation("arrivals", "columns differ in length"))
        elif np.any(np.diff(self.arrival_us) < 0) or np.any(self.duration_s <= 0) or np.any(self.gpus <= 0):
            found.append(Violation("arrivals", "must be in order of time, with positive GPUs and durations"))
        if self.supply_gpus.size == 0 or np.any(self.supply_gpus < 0):
            found.append(Violation("supply_gpus", "needs at least one epoch, and no negative supply"))
        if found:
            raise InvalidInput(found)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return int(self.supply_gpus.size)

    @cached_property
    def gpu_seconds(self) -> Int:
        """Demand of every gang, (gangs,)."""
        return self.gpus * self.duration_s

    @cached_property
    def duration_us(self) -> Int:
        """Of every gang, (gangs,)."""
        return self.duration_s * MICROSECONDS

    @cached_property
    def edge(self) -> Int:
        """Index of the first arrival of every epoch and of the end, (epochs + 1,)."""
        return np.searchsorted(self.arrival_us, np.arange(self.epochs + 1) * PARAMETERS.epoch_us)

    @cached_property
    def window_first(self) -> Int:
        """Index of the first arrival in the window that ends where an epoch starts, (epochs,)."""
        start_us = np.arange(self.epochs) * PARAMETERS.epoch_us - self.window_s * MICROSECONDS
        return np.searchsorted(self.arrival_us, start_us)

    @cached_property
    def window_supply_gpu_seconds(self) -> Int:
        """η · GPUs now · seconds of the window that have passed, rounded down, (epochs,)."""
        passed_s = np.minimum(np.arange(self.epochs) * (PARAMETERS.epoch_us // MICROSECONDS), self.window_s)
        supply: Int = np.floor(PARAMETERS.availability * self.supply_gpus * passed_s).astype(np.int64)
        return supply

    @property
    def full_window(self) -> int:
        """The first epoch that has a whole window behind it."""
        return -(-self.window_s * MICROSECONDS // PARAMETERS.epoch_us)
