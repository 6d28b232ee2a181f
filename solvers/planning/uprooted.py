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
    room, own = _held_by_replicas(assignment, replicas, first)
    held = [np.zeros_like(left) for left in room]
    for gang in gangs:
        rows = slice(first[gang], first[gang + 1])
        for i, mine in enumerate(own):
            held[i][slots[rows]] += mine[rows]
    for i, left in enumerate(room):
        left -= held[i]
    for gang in gangs:
        rows = slice(first[gang], first[gang + 1])
        at = slots[rows]
        before = [left[at] for left in room]
        for left, mine in zip(room, own, strict=True):
            left[at] += mine[rows]
        insert(np.array([gang]))
        for i, (left, mine) in enumerate(zip(room, own, strict=True)):
            stays_held = np.maximum(left[at] - before[i], 0) if assignment.placed[gang] else 0
            left[at] -= stays_held
            held[i][at] -= mine[rows] - stays_held
    for i, left in enumerate(room):
        left += held[i]


def _held_by_replicas(assignment: Assignment, replicas: Int, first: Int) -> tuple[list[Int], list[Int]]:
    """What is free of GPUs, and of CPU and memory if gangs have needs, and what each kept row has of it.

    Parts have one row, so that none of them is uprooted.
    """
    gangs, state = assignment.prepared.problem.gangs, assignment.state
    sizes = [(assignment.free, gangs.gpus_per_replica)]
    if gangs.needs is not None:
        sizes += [(state[8], gangs.needs.cpu_milli), (state[9], gangs.needs.memory_mib)]
    rows_of = np.diff(first)
    return [left for left, _ in sizes], [replicas * np.repeat(size, rows_of) for _, size in sizes]
