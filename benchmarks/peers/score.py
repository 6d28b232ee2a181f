"""Welfare and feasibility of placements, by plain rules that share nothing with any planner.

Written from docs/planning.md for problems in which nothing runs. Slow and simple on purpose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.distances import RTT_TOLERANCE_MS
from solvers.planning.moves import Placements
from solvers.planning.problem import NO_SHARE, Problem

Int = NDArray[np.int64]


def checked_welfare(problem: Problem, placed: Placements) -> int:
    """Welfare in micro-USD per hour; AssertionError with the first fault, if there is one."""
    fault = first_fault(problem, placed)
    assert fault is None, fault
    return welfare_of(problem, placed)


def welfare_of(problem: Problem, placed: Placements) -> int:
    """Values of served gangs minus asks, micro-USD per hour; whether the gangs are whole is not looked at."""
    served = np.unique(placed.request)
    values = problem.gangs.gpus[served] * problem.gangs.value_micro_usd[served]
    asks = placed.gpus * problem.nodes.ask_micro_usd[placed.node]
    return int(sum(values.tolist()) - sum(asks.tolist()))


def first_fault(problem: Problem, placed: Placements) -> str | None:
    """A sentence about something that breaks a rule, or None."""
    for rule, broken in _rules_of_rows(problem, placed).items():
        if broken.any():
            row = int(np.flatnonzero(broken)[0])
            return f"{rule}: request {placed.request[row]} on node {placed.node[row]}"
    used = np.bincount(placed.node, weights=placed.gpus, minlength=problem.capacity.size)
    if (used > problem.capacity).any():
        return f"overfull: node {int(np.argmax(used - problem.capacity))}"
    order = np.argsort(placed.request, kind="stable")
    served, first = np.unique(placed.request[order], return_index=True)
    for request, rows in zip(served, np.split(order, first[1:]), strict=True) if served.size else ():
        fault = _fault_of_gang(problem, int(request), placed.node[rows], placed.gpus[rows])
        if fault:
            return f"{fault}: request {request}"
    return None


def _rules_of_rows(problem: Problem, placed: Placements) -> dict[str, NDArray[np.bool_]]:
    nodes, gangs, request, node = problem.nodes, problem.gangs, placed.request, placed.node
    wanted = gangs.certifications[request]
    return {
        "no whole replicas": (placed.gpus <= 0) | (placed.gpus % gangs.gpus_per_replica[request] != 0),
        "model": ~problem.model_sets[gangs.model_set[request], nodes.model[node]],
        "site": ~problem.site_sets[gangs.site_set[request], nodes.site[node]],
        "supplier": ~problem.supplier_sets[gangs.supplier_set[request], nodes.supplier[node]],
        "tier": nodes.tier[node] < gangs.tier[request],
        "certifications": nodes.certifications[node] & wanted != wanted,
        "connectivity": nodes.connectivity[node] < gangs.connectivity[request],
        "interconnect": nodes.interconnect[node] < gangs.interconnect[request],
        "reliability": nodes.reliability[node] < gangs.reliability[request],
    }


def _fault_of_gang(problem: Problem, gang: int, node: Int, gpus: Int) -> str | None:
    nodes, gangs = problem.nodes, problem.gangs
    if gpus.sum() != gangs.gpus[gang]:
        return "split gang"
    if np.unique(node).size != node.size:
        return "node listed twice"
    if gangs.one_model[gang] and np.unique(nodes.model[node]).size > 1:
        return "several models"
    if gangs.one_fabric[gang] and (nodes.fabric[node].min() < 0 or np.unique(nodes.fabric[node]).size > 1):
        return "torn fabric"
    most = gangs.max_gpus_per_supplier[gang]
    if most != NO_SHARE and np.bincount(nodes.supplier[node], weights=gpus).max() > most:
        return "supplier share"
    sites, limit = np.unique(nodes.site[node]), gangs.max_cluster_rtt_ms[gang] + RTT_TOLERANCE_MS
    if np.isfinite(limit) and any(problem.distances.from_site(int(s))[sites].max() > limit for s in sites):
        return "distant pair"
    return None
