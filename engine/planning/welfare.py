"""The welfare of a plan in exact integers, from its rows: what a search says of itself is not taken on trust."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import AuditFailed
from solvers.planning.plan import Plan
from solvers.planning.problem import Problem

Int = NDArray[np.int64]


def proven_welfare(problem: Problem, plan: Plan) -> int:
    """W in micro-USD per hour, which is what the solver says; AuditFailed if it is not, or passes the bound."""
    welfare = welfare_micro_usd_per_hour(problem, plan)
    if welfare != plan.welfare:
        raise AuditFailed(f"the solver says welfare {plan.welfare}, its placements have {welfare}")
    if welfare > plan.bound:
        raise AuditFailed(f"the welfare {welfare} is above the bound {plan.bound}")
    return welfare


def welfare_micro_usd_per_hour(problem: Problem, plan: Plan) -> int:
    """Values of served gangs minus asks minus moves. One gang's money fits into 64 bits, their sum may not."""
    served = np.unique(plan.request)
    gangs = problem.gangs
    values = gangs.money(served, gangs.gpus[served], gangs.value_micro_usd[served])
    asks = gangs.money(plan.request, plan.gpus, problem.nodes.ask_micro_usd[plan.node])
    moved, gpus = moved_gpus(problem, plan)
    moves = gangs.money(moved, gpus, np.full(moved.size, problem.move_cost_micro_usd))
    return int(sum(values.tolist()) - sum(asks.tolist()) - sum(moves.tolist()))


def moved_gpus(problem: Problem, plan: Plan) -> tuple[Int, Int]:
    """(gang, GPUs that do not stay on their node) of each row of served running gangs."""
    running, nodes = problem.running, problem.capacity.size
    planned_keys = plan.request * nodes + plan.node
    keys = running.request * nodes + running.node
    place = np.minimum(np.searchsorted(planned_keys, keys), max(planned_keys.size - 1, 0))
    stays = np.zeros(keys.size, dtype=np.int64)
    if planned_keys.size:
        stays = np.where(planned_keys[place] == keys, plan.gpus[place], 0)
    served = np.isin(running.request, plan.request)
    return running.request[served], np.maximum(running.gpus - stays, 0)[served]
