"""Small components to the optimum: gangs that share no model with others, few enough for CP-SAT.

A component is a set of gangs tied by the models they may use. If these have few nodes to choose from, `PAIRS_MAX`
in all, it is solved as an integer program from the plan that the search found; whatever it returns is as good or
better. Small ones come first, most of which are proven best in no time, until CP-SAT's time is spent: the rest
keep what the search gave them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.planning.assignment import Assignment
from solvers.planning.prepare import Prepared
from solvers.planning.problem import Problem
from solvers.planning.run import Run

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
PAIRS_MAX, PAIRS_WITH_NEEDS_MAX = 50_000, 4_000
"""Of a gang and a node that it may use. With needs beside whole GPUs, each of its cards has a variable, too."""


class Component(NamedTuple):
    """Gangs, ascending, and how many nodes they may use, those of several gangs counted again."""

    gangs: Int
    pairs: int


def components(models: Flags, able: Flags, nodes_of_gang: Int) -> list[Component]:
    """Split the able gangs by the models that tie them together.

    `models` (gangs, models): that each may use; `nodes_of_gang` (gangs,).
    """
    label = np.arange(models.shape[1])
    for row in np.unique(models[able], axis=0):
        tied = np.unique(label[row])
        label[np.isin(label, tied)] = tied[0] if tied.size else 0
    gangs = np.flatnonzero(able & models.any(axis=1))
    if gangs.size == 0:
        return []
    of_gang = label[models[gangs].argmax(axis=1)]
    alike = [gangs[of_gang == one] for one in np.unique(of_gang)]
    return [Component(part, int(nodes_of_gang[part].sum())) for part in alike]


def nodes_of_gangs(prepared: Prepared) -> Int:
    """How many nodes with capacity for one replica every gang may use, (gangs,)."""
    shapes, rows = prepared.shapes, prepared.rows
    until = np.concatenate([[0], np.cumsum(np.diff(rows.start)[shapes.rows])])
    of_shape: Int = until[shapes.first[1:]] - until[shapes.first[:-1]]
    return of_shape[shapes.of_gang]


def solve_small(
    problem: Problem, assignment: Assignment, parts: list[Component], run: Run, deterministic_time: float
) -> int | None:
    """Improve `assignment` by solving each small component; Σ of their bounds if all were small, else None.

    `problem` is the whole one, pinned rows included. `deterministic_time`: of CP-SAT, for all together. Once it or
    the run's time is out, the components that are left stay as they are and no bound is known.
    """
    from solvers.planning.repair import repair  # CP-SAT takes long to import

    most = PAIRS_MAX if problem.spare is None else PAIRS_WITH_NEEDS_MAX
    small = [part for part in parts if part.pairs <= most]
    bound = 0 if len(small) == len(parts) else None
    left = deterministic_time
    for part in sorted(small, key=lambda part: (part.pairs, int(part.gangs[0]))):
        if run.is_out_of_time() or left <= 0:
            return None
        free, hint = assignment.without(part.gangs)
        found = repair(problem, part.gangs, free, hint, left, run.limits.seed, time_s=run.left_s, prove=True)
        run.ended_by_clock |= found.cut_short
        left -= found.deterministic_time
        bound = None if bound is None or found.bound is None else bound + found.bound
        if found.placed is not None:
            assignment.replace(part.gangs, found.placed)
    return bound
