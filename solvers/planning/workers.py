"""Who searches the parts of a cut: threads of this process, spawned processes, or Ray.

All do the same work with the same seeds, so the plan does not depend on who did it, how many there were, or
whether one of them died and its part was done again.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.assignment import Assignment
from solvers.planning.choices import Choices
from solvers.planning.insistence import insist
from solvers.planning.parts import Reach
from solvers.planning.places import blocks, unknown_fits
from solvers.planning.prepare import Prepared
from solvers.planning.relaxed_market import NEAR
from solvers.planning.search import improve

Int = NDArray[np.int64]
Float = NDArray[np.float64]
ROUNDS_PER_CALL = 250
"""Between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Task:
    """What stays the same in all passes. `value`, `weight` (gangs,) float64; `able` (gangs,): may be served.

    `price` (slots,): the market's; `wish` (gangs,): what each gang could have at it, 0 where nobody insists on it.
    `choices`: those that the search looks at. `at_ask` (gangs,): what a gang would pay alone, at the asks; 0
    stands for any cost within its value, for one that stood at the beginning. `words`: as from `words_of`.
    """

    prepared: Prepared
    choices: Choices
    value: Float
    weight: Float
    reach: Reach
    words: Int
    able: NDArray[np.bool_]
    at_ask: Float
    price: Float
    wish: Float


@dataclass(frozen=True, slots=True)
class Part:
    """One part of one pass: the gangs that its rounds begin with, and the seed of everything else.

    `tries`: how often a gang is insisted on after them.
    """

    number: int
    seed: int
    seeds: Int
    tries: int = 0


class Constants(NamedTuple):
    """What all passes read, as kernels take it. `reach` (gangs, models); `work_sizes`: of scratch arrays."""

    gangs: Arrays
    shapes: Arrays
    supply: Arrays
    ask: Int
    room: Arrays
    value: Float
    weight: Float
    reach: NDArray[np.bool_]
    work_sizes: tuple[int, ...]
    words: Int
    market_price: Float
    wish: Float


class Start(NamedTuple):
    """Where all parts of a pass begin. `walk`: slots, rows and places, then fits and known of `places` if kept."""

    price: Float
    walk: Arrays
    owner: Int
    state: Arrays


Changes = list[tuple[Int, Int]]
"""Of each array of a state: the places that a part changed, and what stands there now."""


class Searchers(Protocol):
    """Searches all parts of a pass and leaves the result in `assignment`."""

    def search(
        self,
        task: Task,
        price: Float,
        walk: Arrays,
        owner: Int,
        parts: list[Part],
        assignment: Assignment,
        left_s: float,
    ) -> None:
        """Improve `assignment` in place, part by part; stop early when `left_s` seconds are over."""


def constants_of(task: Task) -> Constants:
    """The arrays of a task that a search reads; nothing is copied."""
    prepared = task.prepared
    return Constants(
        prepared.gangs,
        prepared.shape_arrays(task.choices),
        prepared.supply,
        prepared.ask,
        prepared.room,
        task.value,
        task.weight,
        task.reach.models,
        tuple(array.size for array in prepared.work()),
        task.words,
        task.price,
        task.wish,
    )


def largest_first(parts: list[Part]) -> list[Part]:
    """The order in which parts are handed out, so that none of the long ones is begun last."""
    return sorted(parts, key=lambda part: -part.seeds.size)


@kernel
def refused_by_model(reach: NDArray[np.bool_], owner: Int, part: int) -> tuple[Int, Int]:
    """(first (models + 1,), gangs): able gangs of a part by the models they accept."""
    count = np.zeros(reach.shape[1] + 1, dtype=np.int64)
    for gang in range(owner.size):
        if owner[gang] == part:
            for model in range(reach.shape[1]):
                count[model + 1] += reach[gang, model]
    first = np.cumsum(count)
    gangs, at = np.empty(first[-1], dtype=np.int64), first.copy()
    for gang in range(owner.size):
        if owner[gang] == part:
            for model in range(reach.shape[1]):
                if reach[gang, model]:
                    gangs[at[model]] = gang
                    at[model] += 1
    return first, gangs


def search_part(constants: Constants, start: Start, part: Part, ends_at_s: float) -> None:
    """Search one part in place, in calls short enough to look at the clock (`time.monotonic`)."""
    gangs, shapes, supply, ask, room, value, weight, reach, work_sizes, words, market_price, wish = constants
    near = np.where(weight > NEAR, start.owner, -1)  # nobody else is worth a try
    refused = refused_by_model(reach, near, part.number)
    random = np.array([part.seed], dtype=np.uint64)
    work = tuple(np.zeros(size, dtype=np.int64) for size in work_sizes)
    slots, fits = start.walk[:3], start.walk[3:] or unknown_fits(words)
    walk, empty_walk = ((*slots, *blocks(slots[0].size), words, *fits) for _ in range(2))

    def search(seeds: Int, value: Float) -> None:
        for done in range(0, seeds.size, ROUNDS_PER_CALL):
            if time.monotonic() >= ends_at_s:
                return
            improve(
                seeds[done : done + ROUNDS_PER_CALL],
                refused,
                gangs,
                shapes,
                supply,
                walk,
                start.price,
                ask,
                room,
                empty_walk,
                value,
                weight,
                start.state,
                work,
                random,
                start.owner,
                part.number,
            )

    search(part.seeds, value)
    mine = np.flatnonzero(start.owner == part.number)
    draw = np.random.default_rng(part.seed)
    insist(part.tries, mine, gangs, ask, market_price, wish, value, start.state, walk, search, draw)


def changes_of_part(constants: Constants, start: Start, part: Part, ends_at_s: float) -> Changes:
    """What the search of one part changes; `start` stays as it is, so that the part can be done again."""
    state = tuple(array.copy() for array in start.state)
    search_part(constants, start._replace(state=state), part, ends_at_s)
    places = [np.flatnonzero(new != old) for new, old in zip(state, start.state, strict=True)]
    return [(at, array[at]) for at, array in zip(places, state, strict=True)]


def write_changes(changes: Changes, state: Arrays) -> None:
    """Write what a part changed; parts change different places, so their order does not matter."""
    for array, (at, values) in zip(state, changes, strict=True):
        array[at] = values


class Threads:
    """Threads over the same arrays: kernels release the interpreter's lock, and parts touch disjoint entries."""

    def __init__(self, count: int | None = None) -> None:
        self._threads = ThreadPoolExecutor(count or min(os.cpu_count() or 1, 8))

    def search(
        self,
        task: Task,
        price: Float,
        walk: Arrays,
        owner: Int,
        parts: list[Part],
        assignment: Assignment,
        left_s: float,
    ) -> None:
        """See `Searchers`."""
        ends_at_s = time.monotonic() + left_s
        constants, start = constants_of(task), Start(price, (*walk[:3], *walk[6:]), owner, assignment.state)
        list(self._threads.map(lambda part: search_part(constants, start, part, ends_at_s), largest_first(parts)))
