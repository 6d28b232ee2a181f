"""Large neighbourhoods: a few gangs that stand in each other's way are placed anew, jointly, by CP-SAT.

    seed        a gang drawn by regret: what it lacks to the best it could have at the market's prices
    rivals      who stands where the seed would stand in an empty fleet, then others who want the same models or
                fabrics: those who were refused, and those who stand worse than they could
    nodes       where these gangs stand, and for each the cheapest place beside all others
    repair      the best joint placement of the gangs on these nodes; it is kept if it is worth more

Every number that steers it is of the seed, the prices and CP-SAT's deterministic time, so a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning.assignment import Assignment
from solvers.planning.candidates import Free
from solvers.planning.cheapest import cheapest, true_cost
from solvers.planning.moves import Placed
from solvers.planning.places import NOT_KEPT, blocks
from solvers.planning.problem import Problem
from solvers.planning.workers import Task

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a neighbourhood may be. `rivals`: gangs beside the seed and those in its way."""

    gangs: int = 12
    rivals: int = 4
    nodes: int = 100


class Neighbourhood(NamedTuple):
    """Gangs to place anew, ascending, and the slots that they may use, ascending."""

    gangs: Int
    slots: Int


def improve_by_repair(
    problem: Problem,
    task: Task,
    market_minimum: Float,
    market_price: Float,
    assignment: Assignment,
    random: np.random.Generator,
    rounds: int,
    deterministic_time: float,
    out_of_time: Callable[[], bool],
    size: Size = Size(),
) -> int:
    """Welfare gained, micro-USD per hour, in so many rounds, or fewer if `out_of_time`; changes `assignment`.

    `problem` is the whole one, pinned rows included. `market_minimum` (gangs,), `market_price` (slots,): what the
    cheapest placement of each gang costs at the prices of the market, and these prices. `deterministic_time`: of
    CP-SAT, for one round.
    """
    near = _Near(task, market_price, assignment, size)
    wished = np.where(task.able, np.maximum(task.prepared.value - market_minimum, 0.0), 0.0)
    gained, tries = 0, np.zeros(wished.size)
    for _ in range(rounds):
        promise = np.maximum(wished - near.surplus, 0.0) / (1.0 + tries)
        if promise.sum() <= 0 or out_of_time():
            break
        seed = int(random.choice(promise.size, p=promise / promise.sum()))
        tries[seed] += 1
        around = near.around(seed, promise, random)
        if around is not None:
            gained += _repair(problem, assignment, around, deterministic_time, int(random.integers(1 << 31)))
            near.look_again(around.gangs)
    return gained


def _repair(problem: Problem, assignment: Assignment, around: Neighbourhood, time: float, seed: int) -> int:
    """Place a neighbourhood anew if that gains welfare; how much."""
    from solvers.planning.repair import repair  # CP-SAT takes long to import

    prepared = assignment.prepared
    present = [_standing(assignment, gang) for gang in around.gangs.tolist()]
    free = np.zeros(problem.capacity.size, dtype=np.int64)
    free[prepared.rows.node[around.slots]] = assignment.free[around.slots]
    rows = [
        (gang, prepared.rows.node[slot], take * prepared.problem.gangs.gpus_per_replica[gang])
        for gang, (slots, takes) in zip(around.gangs.tolist(), present, strict=True)
        for slot, take in zip(slots, takes, strict=True)
    ]
    hint = Placed(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)
    np.add.at(free, hint.node, hint.gpus)
    before = sum(
        int(prepared.value[gang]) - true_cost(gang, prepared.gangs, slots.size, slots, takes, prepared.ask)
        for gang, (slots, takes) in zip(around.gangs.tolist(), present, strict=True)
        if slots.size
    )
    found = repair(problem, around.gangs, Free(free), hint, time, seed)
    if found.placed is None or found.welfare is None or found.welfare <= before:
        return 0
    assignment.replace(around.gangs, found.placed)
    return found.welfare - before


def _standing(assignment: Assignment, gang: int) -> tuple[Int, Int]:
    """(slots, replicas) of one gang."""
    first, slot, take, placed = assignment.state[:4]
    mine = slice(first[gang], first[gang] + placed[gang])
    return slot[mine], take[mine]


class _Near:
    """Finds who and what is near a seed. `surplus` (gangs,): value less prices paid, 0 for who is refused."""

    def __init__(self, task: Task, price: Float, assignment: Assignment, size: Size) -> None:
        prepared = task.prepared
        self.task, self.price, self.assignment, self.size = task, price, assignment, size
        self.walk = prepared.walk(price)
        self.shapes, self.work = prepared.shape_arrays(prepared.placed), prepared.work()
        self.surplus = np.zeros(prepared.value.size)
        self.look_again(np.flatnonzero(assignment.placed))

    def look_again(self, gangs: Int) -> None:
        """Gangs may have moved."""
        gpus = self.task.prepared.problem.gangs.gpus_per_replica
        for gang in gangs.tolist():
            slots, takes = _standing(self.assignment, gang)
            paid = np.dot(self.price[slots], takes * gpus[gang])
            self.surplus[gang] = self.task.prepared.value[gang] - paid if slots.size else 0.0

    def around(self, seed: int, promise: Float, random: np.random.Generator) -> Neighbourhood | None:
        """The neighbourhood of a seed; None if too much stands in its way."""
        wanted = self._cheapest(seed, self.task.prepared.capacity, self.walk)
        gangs, slots = {seed}, {*wanted.tolist(), *_standing(self.assignment, seed)[0].tolist()}
        for gang in self._candidates(seed, wanted, promise, random):
            if gang in gangs:
                continue
            more = slots.union(_standing(self.assignment, gang)[0].tolist())
            if len(more) <= self.size.nodes:
                gangs.add(gang)
                slots = more
            if len(gangs) == self.size.gangs:
                break
        if len(slots) > self.size.nodes:
            return None
        chosen = np.array(sorted(gangs), dtype=np.int64)
        slots |= self._alternatives(chosen, len(slots))
        return Neighbourhood(chosen, np.array(sorted(slots), dtype=np.int64))

    def _candidates(self, seed: int, wanted: Int, promise: Float, random: np.random.Generator) -> Iterator[int]:
        """Who stands on the wanted slots, then rivals by promise."""
        host_first, host, hosts = self.assignment.state[5:8]
        able = self.task.able
        here = [host[host_first[slot] : host_first[slot] + hosts[slot]] for slot in wanted]
        occupants = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *here]))
        occupants = random.permutation(occupants[able[occupants]])
        yield from occupants[: self.size.gangs - 1 - self.size.rivals].tolist()
        models = np.unique(self.task.prepared.supply[3][wanted])
        rivals = np.flatnonzero(self.task.reach.models[:, models].any(axis=1) & able)
        noise = random.exponential(size=rivals.size)
        order = np.argsort(noise / (promise[rivals] + 1.0), kind="stable")
        yield from rivals[order[: 3 * self.size.gangs]].tolist()

    def _alternatives(self, gangs: Int, used: int) -> set[int]:
        """Where each gang would go if all left and came back one by one, as far as the neighbourhood may grow."""
        free, size = self.assignment.free.copy(), self.task.prepared.problem.gangs.gpus_per_replica
        for gang in gangs.tolist():
            slots, takes = _standing(self.assignment, gang)
            free[slots] += takes * size[gang]
        walk = (*self.walk[:3], *blocks(self.walk[0].size), *NOT_KEPT)
        found: set[int] = set()
        for gang in gangs.tolist():
            slots = self._cheapest(gang, free, walk)
            more = found.union(slots.tolist())
            if used + len(more) <= self.size.nodes * 3 // 2:
                found = more
                free[slots] -= self.work[1][: slots.size] * size[gang]
                walk[4][:] = True
        return found

    def _cheapest(self, gang: int, free: Int, walk: Arrays) -> Int:
        """Slots of a gang's cheapest placement at the prices, empty if there is none."""
        prepared = self.task.prepared
        room = free, *prepared.room[1:]
        arguments = prepared.gangs, self.shapes, prepared.supply, walk, room, self.price, np.inf, self.work
        _, count, _ = cheapest(gang, *arguments)
        slots: Int = self.work[0][:count].copy()
        return slots
