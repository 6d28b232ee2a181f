"""Passes of ruin and recreate: cut into parts, seeds drawn by regret, prices cleared anew now and then."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from solvers.planning.assignment import Assignment
from solvers.planning.parts import Reach, cut
from solvers.planning.places import unknown_fits, words_of
from solvers.planning.plan import Limits
from solvers.planning.prepare import Prepared
from solvers.planning.relaxed_market import (
    NEAR,
    Guide,
    Market,
    clear_the_rest,
    divisible_gangs,
    guide,
    left_to,
    regrets,
    weights,
    wishes,
)
from solvers.planning.run import Run
from solvers.planning.shortlist import shortlist
from solvers.planning.workers import Part, Searchers, Task

Int = NDArray[np.int64]
Float = NDArray[np.float64]

ROUNDS_PER_GANG = 0.6
PASSES_PER_PRICE = 3
"""Passes from one clearing of what is movable to the next; the last of them is not cut, so that no border
stays.
"""
PASSES_MAX = 9
WHOLE_SHARE = 0.3
"""Rounds of a pass that is not cut, to those of one that is: only one core searches in it."""
GANGS_PER_TRY, TRIES = 300, 18
"""How often a part of a pass insists on a gang: once for so many gangs, at most so often (`insistence`)."""
LEAST_GAIN = 1e-4
"""If all passes at the same prices together improve welfare by a smaller share, they are the last."""
LEAST_PROMISE = 0.3
"""Of a gang without regret, against the root of its dollars per hour: it may still be in the way."""
NEAR_TIMES = 4.0
"""How much more often a round begins with one of them: it wins several times as much as one with a served gang."""
NEAR_SHARE = 0.005
"""Of their value, beside their regret, which is small where two large gangs bid for the same room."""
POOR_PROMISE = 0.1
"""Of all other refused gangs."""
PRICE_NOISE = 0.1
"""By how much a pass takes the prices of each model for higher or lower, as a logarithm. Where two models cost a
gang alike, it goes now to one and now to the other, and leaves room for those who accept one of them only.
"""
MUST_SERVE_BONUS = 1e15
"""Larger than any welfare: no round may drop work that must stay served."""


def passes_of(limits: Limits) -> int:
    """How many passes of ruin and recreate the limits allow."""
    return PASSES_MAX if limits.work is None else limits.work


def task_of(
    prepared: Prepared, market: Market, at_ask: Float, reach: Reach, likely: NDArray[np.bool_] | None = None
) -> Task:
    """What stays the same through all passes of the search; `at_ask` as in `Task`, `likely` as in `shortlist`."""
    choices = shortlist(prepared, market, likely)
    return Task(
        prepared=prepared,
        choices=choices,
        value=prepared.value + must_serve_bonus(prepared),
        weight=np.minimum(weights(prepared, market.dual.minimum), 1e9),
        reach=reach,
        words=words_of(choices.segments),
        able=able_gangs(prepared, at_ask),
        at_ask=at_ask,
        price=market.dual.price,
        wish=np.where(prepared.problem.gangs.must_serve, 0.0, wishes(prepared, market)),
    )


def must_serve_bonus(prepared: Prepared) -> Float:
    """What makes work that must stay served worth more than anything, (gangs,)."""
    return np.where(prepared.problem.gangs.must_serve, MUST_SERVE_BONUS, 0.0)


def able_gangs(prepared: Prepared, at_ask: Float) -> NDArray[np.bool_]:
    """Gangs that can be served at the asks within their value, (gangs,); `at_ask` as in `alone_at_asks`."""
    return prepared.standing.open & (at_ask < prepared.value + must_serve_bonus(prepared))


def improve_in_parts(
    run: Run, task: Task, market: Market, assignment: Assignment, searchers: Searchers, passes: int
) -> None:
    """Passes of ruin and recreate until nothing helps or a limit is reached."""
    prepared, able = task.prepared, task.able
    if not able.any() or passes == 0:
        return
    divisible = divisible_gangs(prepared)
    buyers = np.flatnonzero(divisible & prepared.standing.open)
    random = np.random.default_rng(run.limits.seed)
    before = assignment.welfare()
    with ThreadPoolExecutor(1) as beside:
        cleared = beside.submit(clear_the_rest, prepared, market, left_to(divisible, prepared, assignment), buyers)
        for number in range(passes):
            if run.is_out_of_time():
                return
            if number % PASSES_PER_PRICE == 0:
                follow = lasting(guide(prepared, cleared.result()), task)
            whole = number % PASSES_PER_PRICE == PASSES_PER_PRICE - 1
            owner, parts = (np.where(able, 0, -1), 1) if whole else cut(task.reach, able, random)
            promise = promises(task, market, assignment)
            jobs = [part_of(each, owner, promise, random, WHOLE_SHARE if whole else 1.0) for each in range(parts)]
            if whole and number + 1 < passes:  # the pass leaves a core free for the prices after it
                supply = left_to(divisible, prepared, assignment)
                cleared = beside.submit(clear_the_rest, prepared, market, supply, buyers)
            price = follow.price * price_noise(prepared, random)
            searchers.search(task, price, follow.walk, owner, jobs, assignment, run.left_s)
            run.is_out_of_time()  # if so, the pass was cut short
            welfare = assignment.welfare()
            run.report("improve", welfare, market.dual.bound)
            if whole and run.limits.work is None:
                if welfare - before < LEAST_GAIN * max(welfare, 1):
                    break
                before = welfare


def lasting(follow: Guide, task: Task) -> Guide:
    """A guide that several passes walk by: what fits along its walk is kept for the next."""
    return follow._replace(walk=(*follow.walk[:5], task.words, *unknown_fits(task.words)))


def promises(task: Task, market: Market, assignment: Assignment) -> Float:
    """How often rounds begin with each gang, relative to each other, (gangs,)."""
    refused = ~assignment.placed
    near = refused & (task.weight > NEAR)
    stake = regrets(task.prepared, market, assignment) + near * NEAR_SHARE * task.prepared.value / 1e6
    promise: Float = (np.sqrt(stake) + LEAST_PROMISE) * np.where(near, NEAR_TIMES, 1.0)
    promise[refused & ~near] = POOR_PROMISE
    return promise


def price_noise(prepared: Prepared, random: np.random.Generator) -> Float:
    """A factor for each slot, (slots,), the same for a whole model: walks stay in order."""
    models = prepared.problem.model_sets.shape[1]
    noise: Float = np.exp(random.normal(0.0, PRICE_NOISE, models))[prepared.supply[3]]
    return noise


def part_of(number: int, owner: Int, promise: Float, random: np.random.Generator, share: float) -> Part:
    """The rounds of one part: gangs drawn by promise. `share`: of the rounds that it would have by its size."""
    mine = np.flatnonzero(owner == number)
    rounds = int(np.ceil(mine.size * ROUNDS_PER_GANG * share))
    chance = promise[mine] / promise[mine].sum() if rounds else None
    seeds = random.choice(mine, rounds, p=chance) if rounds else mine
    tries = min(int(np.ceil(mine.size * share / GANGS_PER_TRY)), TRIES)
    return Part(number, int(random.integers(1, 1 << 62)), seeds, tries)
