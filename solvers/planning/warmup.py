"""Compiling the planner's kernels, or loading them from the cache, by planning a tiny queue."""

from __future__ import annotations

import numpy as np

from solvers.distances import Distances
from solvers.planning.passes import PASSES_PER_PRICE
from solvers.planning.plan import Limits, Start
from solvers.planning.problem import NO_SHARE, Gangs, Problem, Running
from solvers.planning.refusals import charges
from solvers.planning.restart import mend
from solvers.planning.run import Run
from solvers.planning.solve import begin, finish, search, solve
from solvers.planning.workers import Threads
from solvers.pools import NodeColumns

GANGS = 12


def warm_up() -> None:
    """Plan a dozen gangs on six nodes, up to a pass that is not cut: here only such a one has gangs to improve.

    Then start from that plan.
    """
    problem = tiny_problem()
    plan = solve(problem, Limits(work=PASSES_PER_PRICE))
    solve(problem, Limits(work=0), start=Start(plan.request, plan.node, plan.gpus, plan.node_price))


def load_kernels(again: bool = False) -> None:
    """Load the kernels that a plan of thousands of gangs runs: what `warm_up` does, without repair by CP-SAT.

    `again`: those of a plan from an earlier one, without the others.
    """
    problem, none = tiny_problem(), np.empty(0, dtype=np.int64)
    run = Run(Limits(work=PASSES_PER_PRICE), None)
    start = Start(none, none, none, np.full(problem.capacity.size, np.nan)) if again else None
    task, market, assignment = begin(problem, run, start)
    if start is not None:
        mend(run, task, market, assignment, Threads(1), start)
    search(problem, run, task, market, assignment, Threads(1), 0 if again else PASSES_PER_PRICE)
    finish(problem, run, task, market, assignment, charges(task.prepared, market.dual.price), None)


def tiny_problem() -> Problem:
    """Half the gangs do not fit; between them they use fabrics, close sites, shares, mixed models and a lease."""
    node = np.arange(6)
    zeros = np.zeros(6, dtype=np.int64)
    none = np.empty(0, dtype=np.int64)
    everything = np.ones((1, 2), dtype=bool)
    return Problem(
        nodes=NodeColumns(
            model=node // 3,
            site=node % 2,
            tier=zeros,
            certifications=zeros,
            connectivity=zeros,
            interconnect=zeros,
            fabric=node % 2,
            supplier=node % 2,
            gpu_count=zeros + 8,
            ask_micro_usd=1_000_000 + node,
            reliability=np.ones(6),
            rank=node,
        ),
        capacity=zeros + 8,
        gangs=_gangs(),
        model_sets=everything,
        site_sets=everything,
        supplier_sets=everything,
        distances=Distances(np.array([0.0, 1.0]), np.zeros(2), none, none, np.empty(0)),
        running=Running(np.array([0]), np.array([0]), np.array([8]), np.array([False])),
        move_cost_micro_usd=1,
    )


def _gangs() -> Gangs:
    number = np.arange(GANGS)
    zeros = np.zeros(GANGS, dtype=np.int64)
    return Gangs(
        replicas=np.where(number == 0, 1, 2),
        gpus_per_replica=zeros + np.where(number < 6, 8, 4),
        value_micro_usd=2_000_000 + number,
        model_set=zeros,
        site_set=zeros,
        supplier_set=zeros,
        one_model=number % 2 == 0,
        tier=zeros,
        certifications=zeros,
        connectivity=zeros,
        interconnect=zeros,
        one_fabric=number % 4 == 1,
        reliability=np.zeros(GANGS),
        max_gpus_per_supplier=np.where(number % 5 == 2, 8, NO_SHARE),
        max_cluster_rtt_ms=np.where(number % 3 == 2, 1.0, np.inf),
        must_serve=number == 0,
    )
