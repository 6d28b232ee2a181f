"""POP (partitioned optimisation, 2021): deal nodes and requests into k parts, plan each, put them together.

Nodes are shuffled within each model and site and dealt like cards, so that each part is a small copy of the fleet;
requests are dealt at random. Each part is planned by our own solver, one after the other.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from solvers.planning.moves import Placed
from solvers.planning.plan import Limits
from solvers.planning.problem import Gangs, Problem
from solvers.pools import NodeColumns

Int = NDArray[np.int64]

SEED = 1


def pop(problem: Problem, limit_s: float, *, parts: int) -> Placed:
    """The union of the plans of `parts` parts; each may use its share of the time."""
    from solvers.planning.solve import solve

    rng = np.random.default_rng(SEED)
    part_of_node = dealt(problem, parts, rng)
    part_of_request = rng.permutation(np.arange(problem.gangs.replicas.size) % parts)
    found = []
    for part in range(parts):
        nodes, requests = np.flatnonzero(part_of_node == part), np.flatnonzero(part_of_request == part)
        plan = solve(part_of(problem, nodes, requests), Limits(time_s=limit_s / parts))
        found.append((requests[plan.request], nodes[plan.node], plan.gpus))
    return sorted_placed(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


pop_4 = partial(pop, parts=4)
pop_8 = partial(pop, parts=8)


def dealt(problem: Problem, parts: int, rng: np.random.Generator) -> Int:
    """The part of each node, (nodes,)."""
    nodes = problem.nodes
    order = np.lexsort((rng.random(nodes.model.size), nodes.site, nodes.model))
    part = np.empty(order.size, dtype=np.int64)
    part[order] = np.arange(order.size) % parts
    return part


def part_of(problem: Problem, nodes: Int, requests: Int) -> Problem:
    """The problem of some nodes and requests for whole GPUs, numbered anew in the given order."""
    assert problem.spare is None and problem.gangs.needs is None
    gangs, columns = problem.gangs, problem.nodes
    return replace(
        problem,
        nodes=NodeColumns(**{field.name: getattr(columns, field.name)[nodes] for field in fields(columns)}),
        capacity=problem.capacity[nodes],
        gangs=Gangs(
            **{
                field.name: column[requests]
                for field in fields(gangs)
                if (column := getattr(gangs, field.name)) is not None
            }
        ),
    )


def sorted_placed(request: Int, node: Int, gpus: Int) -> Placed:
    """Rows sorted by request then node."""
    order = np.lexsort((node, request))
    return Placed(request[order], node[order], gpus[order])
