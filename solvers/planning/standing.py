"""What runs, seen by the planner: what is settled, what a gang may keep, and what its pinned part still allows.

A gang whose GPUs are all pinned is settled: a constant of W and of D. One with some pinned GPUs asks for the
rest, on the model, the fabric and the sites that its pinned part leaves, within what it leaves of each
supplier's share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvers.distances import RTT_TOLERANCE_MS
from solvers.planning.problem import Gangs, Problem

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
ANY_FABRIC = -1


@dataclass(frozen=True, slots=True)
class Standing:
    """The open part of a problem. `problem`: with gangs reduced to what is not pinned.

    `open` (gangs,): has GPUs to place. `pinned_ask` (gangs,): asks of pinned GPUs. `only_fabric` (gangs,): -1 or
    the fabric of the pinned part. `runs` (gangs,). Kept rows are those movable on READY nodes, pinned rows the
    others that stay; both sorted by gang: `kept` and `pinned` index `problem.running`.
    """

    problem: Problem
    open: Flags
    pinned_ask: Int
    only_fabric: Int
    runs: Flags
    kept: Int
    pinned: Int


def standing_of(problem: Problem) -> Standing:
    """Reduce the gangs of a problem by their pinned GPUs."""
    running, gangs, nodes = problem.running, problem.gangs, problem.nodes
    count = gangs.replicas.size
    pinned = np.flatnonzero(running.pinned)
    kept = np.flatnonzero(~running.pinned & problem.live[running.node])
    pinned_gpus = np.bincount(running.request[pinned], weights=running.gpus[pinned], minlength=count).astype(
        np.int64
    )
    ask = gangs.money(running.request[pinned], running.gpus[pinned], nodes.ask_micro_usd[running.node[pinned]])
    pinned_ask = np.bincount(running.request[pinned], weights=ask, minlength=count).astype(np.int64)
    runs = np.zeros(count, dtype=bool)
    runs[running.request] = True
    replicas = gangs.replicas - pinned_gpus // gangs.gpus_per_replica
    only_fabric = np.full(count, ANY_FABRIC, dtype=np.int64)
    reduced = replace(problem, gangs=replace(gangs, replicas=replicas))
    for gang in np.flatnonzero((pinned_gpus > 0) & (replicas > 0)):
        reduced = _restricted(
            reduced, int(gang), running.node[pinned[running.request[pinned] == gang]], only_fabric
        )
    return Standing(reduced, replicas > 0, pinned_ask, only_fabric, runs, kept, pinned)


def _restricted(problem: Problem, gang: int, at: Int, only_fabric: Int) -> Problem:
    """The problem with one gang's sets cut down to what goes with its pinned nodes; `only_fabric` is mutated."""
    gangs, nodes = problem.gangs, problem.nodes
    models = problem.model_sets[gangs.model_set[gang]].copy()
    if gangs.one_model[gang]:
        models &= np.isin(np.arange(models.size), nodes.model[at])
    sites = problem.site_sets[gangs.site_set[gang]].copy()
    limit = gangs.max_cluster_rtt_ms[gang]
    if np.isfinite(limit):
        for site in np.unique(nodes.site[at]):
            sites &= problem.distances.from_site(int(site)) <= limit + RTT_TOLERANCE_MS
    if gangs.one_fabric[gang]:
        only_fabric[gang] = nodes.fabric[at[0]]
    model_set, site_set = gangs.model_set.copy(), gangs.site_set.copy()
    model_set[gang], site_set[gang] = problem.model_sets.shape[0], problem.site_sets.shape[0]
    return replace(
        problem,
        model_sets=np.vstack([problem.model_sets, models]),
        site_sets=np.vstack([problem.site_sets, sites]),
        gangs=_with_sets(gangs, model_set, site_set),
    )


def _with_sets(gangs: Gangs, model_set: Int, site_set: Int) -> Gangs:
    return replace(gangs, model_set=model_set, site_set=site_set)
