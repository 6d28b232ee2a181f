"""Small components to the optimum: gangs that share no model with others, few enough for CP-SAT.

A component is a set of gangs tied by the models they may use. One of at most `GANGS_MAX` gangs on `NODES_MAX`
nodes is solved as an integer program from the plan that the search found; whatever it returns is as good or
better. At most `COMPONENTS_MAX` are, the largest first: the rest keep what the search gave them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.planning.assignment import Assignment
from solvers.planning.problem import Problem

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
GANGS_MAX = 24
NODES_MAX = 160
DETERMINISTIC_TIME = 4.0
"""Of CP-SAT, for one component."""
COMPONENTS_MAX = 8


class Component(NamedTuple):
    """Gangs, ascending, and how many nodes with capacity they could use."""

    gangs: Int
    nodes: int


def components(models: Flags, able: Flags, nodes_of_model: Int) -> list[Component]:
    """Split the able gangs by the models that tie them together; `models` (gangs, models)."""
    label = np.arange(models.shape[1])
    for row in np.unique(models[able], axis=0):
        tied = np.unique(label[row])
        label[np.isin(label, tied)] = tied[0] if tied.size else 0
    gangs = np.flatnonzero(able & models.any(axis=1))
    if gangs.size == 0:
        return []
    of_gang = label[models[gangs].argmax(axis=1)]
    return [
        Component(gangs[of_gang == one], int(nodes_of_model[label == one].sum())) for one in np.unique(of_gang)
    ]


def solve_small(
    problem: Problem, assignment: Assignment, parts: list[Component], seed: int, out_of_time: Callable[[], bool]
) -> int | None:
    """Improve `assignment` by solving each small component; Σ of their bounds if all were small, else None.

    `problem` is the whole one, pinned rows included. Once `out_of_time`, the components that are left stay as they
    are and no bound is known.
    """
    from solvers.planning.repair import repair  # CP-SAT takes long to import

    small = [part for part in parts if part.gangs.size <= GANGS_MAX and part.nodes <= NODES_MAX]
    small = sorted(small, key=lambda part: (-part.gangs.size, int(part.gangs[0])))[:COMPONENTS_MAX]
    bound = 0 if len(small) == len(parts) else None
    for part in small:
        if out_of_time():
            return None
        free, hint = assignment.without(part.gangs)
        found = repair(problem, part.gangs, free, hint, DETERMINISTIC_TIME, seed)
        bound = None if bound is None or found.bound is None else bound + found.bound
        if found.placed is not None:
            assignment.replace(part.gangs, found.placed)
    return bound
