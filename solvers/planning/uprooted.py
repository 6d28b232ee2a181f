"""Gangs that lost some of their nodes: they enter only what is free already, so that none waits for another.

Who leaves room behind when it moves may be waited for by others, and they by it. A plan in which such gangs enter
only room that is free before anybody moves has an order of moves: any.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.planning.assignment import Assignment

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


def uprooted(assignment: Assignment) -> Flags:
    """(gangs,): runs, does not stand where it runs, and would leave room behind on a READY node."""
    standing, running = assignment.prepared.standing, assignment.prepared.problem.running
    leaves: Flags = np.zeros(standing.runs.size, dtype=bool)
    leaves[running.request[standing.kept]] = True
    return leaves & standing.open & ~assignment.placed


def place_uprooted(assignment: Assignment, gangs: Int, insert: Callable[[Int], None]) -> None:
    """Place some uprooted gangs, in this order, each on its own nodes and on what is free before any moves.

    `insert` places the gangs it is given where the assignment has room.
    """
    first, slots, replicas = assignment.prepared.gangs[4:7]
    size, free = assignment.prepared.problem.gangs.gpus_per_replica, assignment.free
    own = replicas * np.repeat(size, np.diff(first))
    held = np.zeros_like(free)
    for gang in gangs:
        rows = slice(first[gang], first[gang + 1])
        held[slots[rows]] += own[rows]
    free -= held
    for gang in gangs:
        rows = slice(first[gang], first[gang + 1])
        at, before = slots[rows], free[slots[rows]]
        free[at] += own[rows]
        insert(np.array([gang]))
        stays_held = np.maximum(free[at] - before, 0) if assignment.placed[gang] else 0
        free[at] -= stays_held
        held[at] -= own[rows] - stays_held
    free += held
