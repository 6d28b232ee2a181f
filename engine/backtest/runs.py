"""All policies over all seeds: one seed is one task, spread over spawned processes; the mean over seeds.

The answer does not depend on the number of processes: seeds share nothing, and means are taken in their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol

from engine.backtest.metrics import Metrics, mean_metrics, measure
from engine.backtest.policies import OccupancyController, Oracle, Policy
from engine.backtest.scenario import PARAMETERS, Int, Level, Scenario
from engine.backtest.simulation import best_fixed_price, clearing_path, play

OnSeed = Callable[[int], None]
"""Hears each seed when it is done, in order."""


class Drawn(Protocol):
    """A scenario that can be drawn from a seed, here or in another process."""

    def draw(self, seed: int) -> Scenario:
        """The same seed gives the same scenario."""
        ...


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One seed: what each policy came to. Price paths (epochs,), micro-USD per GPU-hour."""

    seed: int
    clearing: Int
    posted: dict[str, Int]
    metrics: dict[str, Metrics]
    levels: tuple[Level, ...]


def policies(scenario: Scenario) -> dict[str, Policy]:
    """The policies of the table, by name: `fixed` is the best in hindsight, `occupancy` aims at η."""
    return {
        "fixed": best_fixed_price(scenario),
        "occupancy": OccupancyController(target=PARAMETERS.availability),
        "oracle": Oracle(PARAMETERS),
    }


def run_seed(drawn: Drawn, seed: int) -> SeedRun:
    """Draw one seed and play every policy through it."""
    scenario = drawn.draw(seed)
    clearing = clearing_path(scenario)
    plays = {name: play(scenario, policy, clearing) for name, policy in policies(scenario).items()}
    return SeedRun(
        seed,
        clearing,
        {name: played.posted for name, played in plays.items()},
        {name: measure(scenario, played, clearing) for name, played in plays.items()},
        scenario.levels,
    )


def run_seeds(
    drawn: Drawn, seeds: Sequence[int], workers: int | None = None, on_seed: OnSeed | None = None
) -> list[SeedRun]:
    """Every seed, in order. `workers` processes, by default one per core; one worker stays in this process."""
    runs = []
    for run in _each(drawn, seeds, min(workers or os.cpu_count() or 1, len(seeds))):
        runs.append(run)
        if on_seed is not None:
            on_seed(run.seed)
    return runs


def table(runs: Sequence[SeedRun]) -> dict[str, dict[str, float | None]]:
    """{policy: {metric: mean over seeds}}: the JSON of `walras backtest`."""
    return {name: mean_metrics([run.metrics[name] for run in runs]) for name in runs[0].metrics}


def _each(drawn: Drawn, seeds: Sequence[int], workers: int) -> Iterator[SeedRun]:
    if workers == 1:
        yield from (run_seed(drawn, seed) for seed in seeds)
        return
    # Spawned, not forked: a forked child of a process with threads can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_seed, [drawn] * len(seeds), seeds)
