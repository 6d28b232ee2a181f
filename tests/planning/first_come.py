"""A search that needs no solver: work that must stay served stays, all else comes first come, cheapest fit, on one
site, one model and one fabric; prices are 0, so that the bound is the value of everything. Small worlds only."""

from __future__ import annotations

import numpy as np

from engine.planning.welfare import welfare_micro_usd_per_hour
from solvers.planning.plan import Limits, OnProgress, Plan, Progress
from solvers.planning.problem import NO_SHARE, Problem
from solvers.planning.retreat import orderable
from tests.solvers.planning.small_problems import suits

Rows = list[tuple[int, int, int]]


def first_come(problem: Problem, limits: Limits, on_progress: OnProgress | None = None) -> Plan:
    free = problem.capacity.copy()
    rows: Rows = []
    running = problem.running
    for gang in np.argsort(~problem.gangs.must_serve, kind="stable").tolist():
        mine = running.request == gang
        now = list(zip(running.node[mine].tolist(), running.gpus[mine].tolist(), strict=True))
        stays = now if problem.gangs.must_serve[gang] else None
        found = stays or ([] if running.pinned[mine].any() else cheapest_fit(problem, gang, free))
        pinned = dict(zip(running.node[mine].tolist(), running.pinned[mine].tolist(), strict=True))
        for node, gpus in found:
            free[node] -= 0 if pinned.get(node) else gpus
        rows += [(gang, node, gpus) for node, gpus in found]
    placed = orderable(problem, plan_of(problem, sorted(rows)))
    columns = (placed.request.tolist(), placed.node.tolist(), placed.gpus.tolist())
    return plan_of(problem, list(zip(*columns, strict=True)), on_progress)


def plan_of(problem: Problem, rows: Rows, on_progress: OnProgress | None = None) -> Plan:
    """The plan of given rows, with prices of 0 and the bound that they prove."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    bound = int((problem.gangs.gpus * problem.gangs.value_micro_usd).sum())
    prices = np.zeros(problem.capacity.size)
    plan = Plan(*columns, 0, prices, bound, None, (), False)
    welfare = welfare_micro_usd_per_hour(problem, plan)
    history = (Progress("bound", 0.0, None, bound), Progress("first come", 0.0, welfare, bound))
    for step in history if on_progress else ():
        on_progress(step)
    return Plan(*columns, welfare, prices, bound, None, history, False)


def cheapest_fit(problem: Problem, gang: int, free: np.ndarray) -> list[tuple[int, int]]:
    nodes, gangs = problem.nodes, problem.gangs
    size = int(gangs.gpus_per_replica[gang])
    order = np.argsort(nodes.ask_micro_usd, kind="stable")
    keys = zip(nodes.site.tolist(), nodes.model.tolist(), nodes.fabric.tolist(), strict=True)
    groups: dict[tuple[int, ...], list[int]] = {}
    for node, key in enumerate(keys):
        groups.setdefault(key, []).append(node)
    for members in groups.values():
        left = int(gangs.replicas[gang])
        share = dict.fromkeys(nodes.supplier.tolist(), share_of(problem, gang))
        found = []
        for node in [each for each in order.tolist() if each in members and fits(problem, gang, each)]:
            supplier = int(nodes.supplier[node])
            most = min(left, int(free[node]) // size, share[supplier] // size)
            if most > 0:
                found.append((node, most * size))
                left -= most
                share[supplier] -= most * size
        cost = sum(gpus * int(nodes.ask_micro_usd[node]) for node, gpus in found)
        if not left and cost <= int(gangs.gpus[gang] * gangs.value_micro_usd[gang]):
            return found
    return []


def share_of(problem: Problem, gang: int) -> int:
    most = int(problem.gangs.max_gpus_per_supplier[gang])
    return int(problem.gangs.gpus[gang]) if most == NO_SHARE else most


def fits(problem: Problem, gang: int, node: int) -> bool:
    """Whether a node keeps all that a gang asks of single nodes."""
    on_a_fabric = problem.nodes.fabric[node] >= 0 or not problem.gangs.one_fabric[gang]
    return bool(on_a_fabric and suits(problem, gang, node))
