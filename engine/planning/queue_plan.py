"""Making the plan of one queue on one snapshot: the steps from the market's state to what is kept of a plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.planning.apply import Outcome, outcome_of
from engine.planning.known_demands import KnownDemands
from engine.planning.last_queue_plan import start_of
from engine.planning.snapshot import Gang, Rules, Snapshot, queue_of
from solvers.planning.moves import Order, order
from solvers.planning.plan import Limits, OnProgress, Plan, Start
from solvers.planning.problem import Problem


@dataclass(frozen=True, slots=True)
class Solver:
    """Who solves, from a start if one is given. `order`: moves of a plan such that no step overfills a node."""

    solve: Callable[[Problem, Limits, OnProgress, Start | None], Plan]
    order: Callable[[Problem, Plan], Order]


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """A plan with all that can be read of it, and nothing of the problem. `gangs`: what its rows are about.

    `priced` (nodes,): had capacity, so that its price says something to a later plan. `known`: of its queue.
    """

    state_version: int
    fleet_version: int
    gangs: tuple[Gang, ...]
    plan: Plan
    moves: Order
    outcome: Outcome
    priced: NDArray[np.bool_]
    known: KnownDemands


@dataclass(frozen=True, slots=True)
class QueueJob:
    """A queue to be planned on a snapshot. `catalogue`: GPU models known to exist beside those of the fleet.

    `last`: the plan to start from.
    """

    snapshot: Snapshot
    requests: Sequence[ClusterRequest]
    rules: Rules
    limits: Limits
    catalogue: Collection[str]
    last: QueuePlan | None = None

    def run(self, solver: Solver, on_progress: OnProgress) -> QueuePlan:
        """Plan, for as long as `on_progress` does not raise. InvalidInput lists names that nobody knows."""
        last = self.last
        known = None if last is None else last.known
        queue = queue_of(self.snapshot, self.requests, self.rules, self.catalogue, known)
        start = None if last is None else start_of(last.plan, last.gangs, last.priced, queue)
        plan = solver.solve(queue.problem, self.limits, on_progress, start)
        moves = solver.order(queue.problem, plan)
        return QueuePlan(
            state_version=self.snapshot.state_version,
            fleet_version=self.snapshot.fleet_version,
            gangs=queue.gangs,
            plan=plan,
            moves=moves,
            outcome=outcome_of(self.snapshot, queue, plan, moves),
            priced=queue.problem.live,
            known=queue.known,
        )


def _solve(problem: Problem, limits: Limits, on_progress: OnProgress, start: Start | None) -> Plan:
    from solvers.planning.solve import solve

    return solve(problem, limits, on_progress, start=start)


OUR_SOLVER = Solver(_solve, order)
"""The solver of `solvers.planning`."""
