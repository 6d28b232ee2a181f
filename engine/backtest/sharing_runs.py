"""All policies over all seeds: one policy on one seed is one task, spread over spawned processes.

The answer does not depend on the number of processes: tasks share nothing, and means are taken in their order.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from engine.backtest.sharing_replay import LEVELS, TILED_TO, MakePolicy, play
from engine.backtest.sharing_trace import openb_trace
from engine.domain.errors import InvalidInput, Violation
from solvers.sharing.scheduler import SharingScheduler

OURS = "walras"
PEERS = ("random", "dot product", "gpu packing", "best fit", "fgd")
POLICIES = (*PEERS, OURS)
PEERS_MODULE = "benchmarks.peers.sharing"

OnRun = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Task:
    """One policy on one seed of one trace."""

    data_dir: Path
    trace: str
    seed: int
    policy: str


@dataclass(frozen=True, slots=True)
class Run:
    """What one policy came to on one seed."""

    policy: str
    seed: int
    shares: tuple[float, ...]
    """Share of GPU capacity placed at 0, 1, ..., 130 % of demand."""
    pods_per_cpu_s: float


def make_policy(name: str, seed: int) -> MakePolicy:
    """A policy by name. Peers stand with the benchmarks, which only a checkout of the repository has."""
    if name == OURS:
        return lambda shapes, fleet, _: SharingScheduler(shapes, fleet)
    try:
        peers = importlib.import_module(PEERS_MODULE)
    except ModuleNotFoundError:
        told = f"the peers ({PEERS_MODULE}) are not installed: run the replay in a checkout of the repository"
        raise InvalidInput([Violation("walras replay", told)]) from None
    made: MakePolicy = peers.sharing_peers(seed)[name]
    return made


def run_task(task: Task) -> Run:
    """Load the trace, draw the stream of the seed and play it; a few pods first, so that no compiling is timed."""
    trace = openb_trace(task.data_dir, task.trace)
    arrivals = trace.arrivals(task.seed, TILED_TO)
    make = make_policy(task.policy, task.seed)
    play(trace, make, arrivals[:2])
    began = time.process_time()
    played = play(trace, make, arrivals)
    took_s = max(time.process_time() - began, 1e-9)
    shares = tuple(played.share_at(level) for level in range(LEVELS[-1] + 1))
    return Run(task.policy, task.seed, shares, arrivals.size / took_s)


def run_all(
    data_dir: Path, trace: str, seeds: int, workers: int | None = None, on_run: OnRun | None = None
) -> list[Run]:
    """Every policy on seeds 0 to N − 1; `workers` processes, one a core by default. One stays in this process."""
    make_policy(PEERS[0], 0)
    openb_trace(data_dir, trace)
    tasks = [Task(data_dir, trace, seed, policy) for seed in range(seeds) for policy in POLICIES]
    runs = []
    for run in _each(tasks, min(workers or os.cpu_count() or 1, len(tasks))):
        runs.append(run)
        if on_run is not None:
            on_run()
    return runs


def table(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """{policy: {level: mean share over seeds}}: the JSON of `walras replay`."""
    return {policy: {str(level): mean_curve(runs, policy)[level] for level in LEVELS} for policy in POLICIES}


def mean_curve(runs: Sequence[Run], policy: str) -> list[float]:
    """Mean share at 0, 1, ..., 130 % of demand."""
    curves = [run.shares for run in runs if run.policy == policy]
    return [sum(shares) / len(curves) for shares in zip(*curves, strict=True)]


def _each(tasks: Sequence[Task], workers: int) -> Iterator[Run]:
    if workers == 1:
        yield from map(run_task, tasks)
        return
    # Spawned, not forked: a forked child of a process with threads can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_task, tasks)
