"""From what runs now to a plan, one gang at a time, so that every node fits after every step.

What is stopped or refused leaves first and new work starts last, so that only gangs that run now and stay served
need an order. A gang moves all at once as soon as the nodes it enters have room; it then frees those it leaves:

    repeat: move the first gang, by (priority, number), whose nodes have room

Gangs that leave only nodes without capacity come last: their leaving helps nobody, and where they enter others may
have to pass.

If gangs are left over, each of them waits for room that another one holds. A greedy choice may be the reason: a
gang that enters a node early takes room that others needed in passing. So those left over most often are tried
first next time. The problem is NP-hard: that no order is found does not prove that there is none.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from solvers.planning.problem import Problem
from solvers.planning.rooms import Rooms

Int = NDArray[np.int64]

ATTEMPTS = 4


class Placements(Protocol):
    """Rows of a plan, pinned rows included, columns of shape (rows,); `solvers.planning.plan.Plan` is one."""

    @property
    def request(self) -> Int:
        """Number of the gang."""

    @property
    def node(self) -> Int:
        """Number of the node."""

    @property
    def gpus(self) -> Int:
        """GPUs of the gang on the node."""

    @property
    def card(self) -> Int | None:
        """Of a part its card, else `NO_CARD`; None: no gang has needs beside whole GPUs."""


class Placed(NamedTuple):
    """Placement rows, sorted by request then node; columns of shape (rows,). `card`: as in `Placements`."""

    request: Int
    node: Int
    gpus: Int
    card: Int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """The moves, a row per step, source and target; columns of shape (moves,). Step s moves one gang, all at once.

    `blocked`: gangs, ascending, for which no step was found; no row is theirs.
    """

    step: Int
    request: Int
    from_node: Int
    to_node: Int
    gpus: Int
    blocked: Int


def order(problem: Problem, plan: Placements) -> Order:
    """The moves from the present placement to a plan that fits."""
    migration = furthest(problem, plan)
    moves = [
        (step, gang, source, target, gpus)
        for step, gang in enumerate(migration.moved)
        for source, target, gpus in _paired(migration.leaves[gang], migration.enters[gang])
    ]
    step, request, source, target, gpus = np.array(moves, dtype=np.int64).reshape(-1, 5).T
    return Order(step, request, source, target, gpus, np.array(sorted(migration.pending), dtype=np.int64))


Ends = dict[int, list[tuple[int, int]]]
"""By gang: (node, GPUs), by node."""


class Migration:
    """A state between now and the plan. `moved`: gangs in the order of their steps; `pending`: those yet to move.

    `room`: what nothing uses in this state; mutated.
    """

    def __init__(self, room: Rooms, enters: Ends, leaves: Ends, left_over: Counter[int], last: set[int]) -> None:
        """Move gangs until none can; those more often `left_over` are tried before others, `last` after all."""
        self.room, self.enters, self.leaves = room, enters, leaves
        self._rank = {gang: (gang in last, -left_over[gang], gang) for gang in enters}
        self.moved: list[int] = []
        self.pending = set(enters)
        self._waiting: defaultdict[int, list[int]] = defaultdict(list)
        self._ready = list(self._rank.values())
        heapq.heapify(self._ready)
        self.go_on()

    def go_on(self) -> None:
        """Move gangs until none can; each that can not waits at the first node without room for it."""
        while self._ready:
            gang = heapq.heappop(self._ready)[-1]
            if gang not in self.pending:
                continue
            full = next((node for node, gpus in self.enters[gang] if self.room.lacks(gang, node, gpus)), None)
            if full is None:
                self._move(gang)
            else:
                self._waiting[full].append(gang)

    def free(self, gang: int, node: int, gpus: int) -> None:
        """Give back the room of a gang that leaves; who waits for it is tried again by `go_on`."""
        self.room.give(gang, node, gpus, now=True)
        for gang in self._waiting.pop(node, ()):
            heapq.heappush(self._ready, self._rank[gang])

    def _move(self, gang: int) -> None:
        self.pending.remove(gang)
        self.moved.append(gang)
        for node, gpus in self.enters[gang]:
            self.room.take(gang, node, gpus)
        for node, gpus in self.leaves[gang]:
            self.free(gang, node, gpus)


def furthest(problem: Problem, plan: Placements) -> Migration:
    """The attempt that leaves the fewest gangs behind."""
    enters, leaves = _changes(problem, plan)
    live = problem.live
    last = {gang for gang, ends in leaves.items() if not any(live[node] for node, _ in ends)}
    left_over: Counter[int] = Counter()
    best = latest = Migration(_room_after_departures(problem, plan), enters, leaves, left_over, last)
    for _ in range(ATTEMPTS):
        if not best.pending or latest.pending == left_over.keys():
            break
        left_over.update(latest.pending)
        latest = Migration(_room_after_departures(problem, plan), enters, leaves, left_over, last)
        best = min(best, latest, key=lambda migration: len(migration.pending))
    return best


def _room_after_departures(problem: Problem, plan: Placements) -> Rooms:
    """What the running gangs of the plan do not use before they move."""
    running, room = problem.running, Rooms(problem, plan)
    stays = ~running.pinned & np.isin(running.request, plan.request)
    if problem.spare is None:
        room.gpus = (
            problem.capacity
            - np.bincount(running.node[stays], running.gpus[stays], problem.capacity.size).astype(np.int64)
        ).tolist()
        return room
    columns = (column[stays].tolist() for column in (running.request, running.node, running.gpus))
    for gang, node, gpus in zip(*columns, strict=True):
        room.take(gang, node, gpus, now=True)
    return room


def _changes(problem: Problem, plan: Placements) -> tuple[Ends, Ends]:
    """What every running gang that the plan moves enters, and what it leaves."""
    running, nodes = problem.running, problem.capacity.size
    later, now = np.isin(plan.request, running.request), np.isin(running.request, plan.request)
    keys = np.append((plan.request * nodes + plan.node)[later], (running.request * nodes + running.node)[now])
    distinct, place = np.unique(keys, return_inverse=True)
    change = np.zeros(distinct.size, dtype=np.int64)
    np.add.at(change, place, np.append(plan.gpus[later], -running.gpus[now]))
    enters: Ends = defaultdict(list)
    leaves: Ends = defaultdict(list)
    moves = change != 0
    for key, gpus in zip(distinct[moves].tolist(), change[moves].tolist(), strict=True):
        (enters if gpus > 0 else leaves)[key // nodes].append((key % nodes, abs(gpus)))
    return enters, leaves


def _paired(leaves: list[tuple[int, int]], enters: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(from, to, GPUs): both sides, which have equally many GPUs, walked in the order of nodes."""
    targets = iter(enters)
    target, wanted = next(targets)
    for source, left in leaves:
        while left:
            if not wanted:
                target, wanted = next(targets)
            gpus = min(left, wanted)
            yield source, target, gpus
            left, wanted = left - gpus, wanted - gpus
