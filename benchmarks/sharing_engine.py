"""`python -m benchmarks.sharing_engine DIR`: the engine's own placement on the open trace of pods that share GPUs.

The same replay as `walras replay openb`, with the pods that want a GPU: the engine places no others. All nodes
cost the same, so only the rule of ties decides. Without prices of what is left parts go by best fit; with prices,
cleared each `EVERY` pods as by an epoch, where least is destroyed. Beside both: the scheduler of that replay.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.backtest.sharing_replay import LEVELS, TILED_TO, MakePolicy, play
from engine.backtest.sharing_trace import SharingTrace, openb_trace
from solvers.distances import Distances
from solvers.placement import Demand, NoPlacement, Placer
from solvers.pools import NodeColumns, Pools
from solvers.sharing.fleet import CARD_MILLI, NOWHERE, WHOLE, Int, Machines, Shapes, SharedFleet
from solvers.sharing.scheduler import SharingScheduler
from solvers.sharing.worth import Wants, cleared, scale_of, states_of
from solvers.spare import Spare

EVERY = 500
"""Pods between two epochs."""


class EnginePolicy:
    """The engine's placer as a policy of the replay. `every`: pods between two clearings, None: never."""

    def __init__(self, shapes: Shapes, fleet: SharedFleet, every: int | None) -> None:
        self._shapes, self._fleet, self._every = shapes, fleet, every
        machines = fleet.machines
        self._free, self._spare = machines.gpus.copy(), _spare(machines)
        self._placer = _placer(machines, self._free.copy(), self._spare)
        self._scale = scale_of(machines.gpus, machines.cpu_milli, machines.memory_mib)
        self._arrived, self._fill, self._chosen = np.zeros(shapes.gpus.size), np.ones(0), 0

    def choose(self, shape: int) -> tuple[int, int]:
        """(node, card) of the engine's placement, by the replay's numbers of cards."""
        self._arrived[shape] += 1
        if self._every is not None and self._arrived.sum() % self._every == 0:
            self._clear()
        shapes = self._shapes
        milli = int(shapes.gpu_milli[shape]) % CARD_MILLI
        models, beside = (
            np.flatnonzero(shapes.models[shape]),
            (int(shapes.cpu_milli[shape]), int(shapes.memory_mib[shape])),
        )
        everywhere = np.ones(1, dtype=bool)
        demand = Demand(1, int(shapes.gpus[shape]), models, everywhere, one_model=False, gpu_milli=milli)
        found = self._placer.place(replace(demand, cpu_milli=beside[0], memory_mib=beside[1]))
        if isinstance(found, NoPlacement):
            return NOWHERE, WHOLE
        node, card = int(found.nodes[0]), WHOLE
        self._spare.cpu_milli[node] -= beside[0]
        self._spare.memory_mib[node] -= beside[1]
        taken = demand.gpus_per_replica
        if milli:
            left = self._spare.cards.of(node).get(found.card, CARD_MILLI)
            taken = int(self._spare.cards.take(node, found.card, milli))
            card = int(np.argmax(self._fleet.card_left[node] == left))
        self._free[node] -= taken
        self._placer.pools.set_free(np.array([node]), self._free[[node]])  # type: ignore[union-attr]
        return node, card

    def took(self, node: int) -> None:
        """Its own books are kept by `choose`."""

    def _clear(self) -> None:
        shapes, fleet = self._shapes, self._fleet
        wants = Wants(shapes, self._arrived.copy(), shapes.gpu_milli_each().astype(np.float64))
        states = states_of(fleet.machines.model, self._free, self._spare, fleet.card_left.shape[1])
        worth = cleared(wants, states, self._scale, self._fill)
        self._fill, self._spare.worth = worth.fill, worth.arrays()


def _spare(machines: Machines) -> Spare:
    spare = Spare(machines.cpu_milli.copy(), machines.memory_mib.copy(), int(machines.gpus.max()))
    spare.is_open[:] = True
    return spare


def _placer(machines: Machines, free: Int, spare: Spare) -> Placer:
    count, models = machines.gpus.size, int(machines.model.max()) + 1
    zeros, none = np.zeros(count, dtype=np.int64), np.zeros(0, dtype=np.int64)
    fabric, number = zeros - 1, np.arange(count)
    nodes = NodeColumns(
        machines.model,
        zeros,
        zeros,
        zeros,
        zeros,
        zeros,
        fabric,
        zeros,
        machines.gpus,
        zeros,
        np.ones(count),
        number,
    )
    pools = Pools(nodes, free, machines.model, np.ones(models, dtype=np.int64), models)
    return Placer(pools, Distances(np.zeros(1), np.zeros(1), none, none, np.zeros(0)), spare)


def with_gpus_only(trace: SharingTrace) -> SharingTrace:
    """The trace without pods and machines that have no GPU."""
    machines, own = trace.machines, trace.machines.gpus > 0
    kept = Machines(
        *(column[own] for column in (machines.model, machines.gpus, machines.cpu_milli, machines.memory_mib))
    )
    return SharingTrace(kept, trace.shapes, trace.pods[trace.shapes.gpus[trace.pods] > 0])


POLICIES: dict[str, MakePolicy] = {
    "engine, best fit": lambda shapes, fleet, _: EnginePolicy(shapes, fleet, None),
    f"engine, prices every {EVERY} pods": lambda shapes, fleet, _: EnginePolicy(shapes, fleet, EVERY),
    "scheduler of the replay": lambda shapes, fleet, _: SharingScheduler(shapes, fleet),
}


def shares(trace: SharingTrace, policy: str, seeds: int) -> tuple[list[float], float]:
    """(mean share of GPU capacity placed at each of `LEVELS`, pods per CPU second)."""
    found, pods, began = [], 0, time.process_time()
    for seed in range(seeds):
        arrivals = trace.arrivals(seed, TILED_TO)
        played = play(trace, POLICIES[policy], arrivals)
        found.append([played.share_at(level) for level in LEVELS])
        pods += arrivals.size
    return np.mean(found, axis=0).tolist(), pods / (time.process_time() - began)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharing_engine", description=__doc__)
    parser.add_argument("data", type=Path, help="public data, with the folder of the trace")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    print("| trace | policy | 100 % | 130 % | pods per CPU second |\n| --- | --- | ---: | ---: | ---: |")
    for name in ("default", "gpuspec33"):
        trace = with_gpus_only(openb_trace(given.data, name))
        for policy in POLICIES:
            shares(trace, policy, 1)  # so that no compiling is timed
            (at_100, at_130), pods_per_s = shares(trace, policy, given.seeds)
            print(f"| {name} | {policy} | {at_100:.2%} | {at_130:.2%} | {pods_per_s:,.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
