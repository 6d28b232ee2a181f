"""Solving a joint problem: prices, a first plan, search, proof. Anytime, seeded, the same for a given work limit.

prepare        fold the fleet, list every gang's choices                              (prepare, fold, choices)
price          clear the relaxed market; D at these prices is the bound               (clearing, dual)
place          keep what runs, then put gangs where their price is least              (search.insert)
improve        ruin and recreate in parts; prices are cleared anew for what is movable (search, parts)
finish         small components: CP-SAT to the optimum                                (exact, repair)
order          only plans whose moves can be made one by one leave here               (moves, retreat)
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning.assignment import Assignment
from solvers.planning.choices import C_ROOM
from solvers.planning.clearing import clearing_prices
from solvers.planning.dual import Dual, cheapest_alone, dual
from solvers.planning.exact import components, solve_small
from solvers.planning.moves import Placed
from solvers.planning.pairs import pairs_of
from solvers.planning.parts import cut, reach_of
from solvers.planning.plan import Limits, OnProgress, Plan, Progress, StrongerBound
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import Problem
from solvers.planning.refusals import explain
from solvers.planning.retreat import orderable
from solvers.planning.search import insert
from solvers.planning.workers import Part, Searchers, Task, Threads

Int = NDArray[np.int64]
Float = NDArray[np.float64]

ROUNDS_PER_GANG = 0.5
PASSES_PER_PRICE = 3
"""Passes from one clearing of what is movable to the next; the last of them is not cut, so that no border
stays.
"""
PASSES_MAX = 12
LEAST_GAIN = 3e-4
"""If all passes at the same prices together improve welfare by a smaller share, they are the last."""
ASK_WEIGHT = 0.2
"""Guidance prices lean this much towards the asks: among equally scarce nodes the cheap ones go first."""
LEAST_PROMISE = 0.3
"""Of a gang without regret, against the root of its dollars per hour: it may still be in the way."""
DIVISIBLE_ROOM = 8
"""A gang is divisible, for prices, if a choice could hold so many of it."""
MUST_SERVE_BONUS = 1e15
"""Larger than any welfare: no round may drop work that must stay served."""


NO_LIMITS = Limits()


@dataclass(slots=True)
class Run:
    """What a run keeps: the clock and what it reported."""

    limits: Limits
    on_progress: OnProgress | None
    started: float = field(default_factory=time.monotonic)
    history: list[Progress] = field(default_factory=list)

    def report(self, phase: str, welfare: int | None, bound: float | None) -> None:
        """Note and pass on one step."""
        whole = None if bound is None else int(np.ceil(bound))
        step = Progress(phase, time.monotonic() - self.started, welfare, whole)
        self.history.append(step)
        if self.on_progress is not None:
            self.on_progress(step)

    @property
    def left_s(self) -> float:
        """Seconds left to search, inf without a limit; what follows takes about as long as pricing did."""
        if self.limits.time_s is None:
            return float("inf")
        priced = [step.elapsed_s for step in self.history if step.phase in ("price", "place")]
        reserve_s = priced[1] - priced[0] if len(priced) == 2 else 0.0
        return self.limits.time_s - reserve_s - (time.monotonic() - self.started)


class Market(NamedTuple):
    """Prices of the relaxation and what follows from them."""

    pairs: tuple[Int, NDArray[np.int32]]
    row_price: Float
    dual: Dual


def solve(
    problem: Problem,
    limits: Limits = NO_LIMITS,
    on_progress: OnProgress | None = None,
    searchers: Searchers | None = None,
) -> Plan:
    """The best plan found within the limits, with the prices that prove how good it is."""
    run = Run(limits, on_progress)
    run.report("prepare", None, None)
    prepared = prepare(problem)
    run.report("price", None, None)
    market = price(prepared)
    assignment = first_plan(prepared, market)
    run.report("place", assignment.welfare(), market.dual.bound)
    task = task_of(prepared, market)
    ended_by_clock = improve_in_parts(run, task, market, assignment, searchers or Threads())
    stronger = solve_to_the_end(problem, task, assignment, limits.seed)
    keep_orderable(problem, market, assignment)
    return finish(problem, run, prepared, market, assignment, stronger, ended_by_clock)


def price(prepared: Prepared) -> Market:
    """Clear the relaxed market and evaluate the bound."""
    gangs = prepared.problem.gangs
    most = np.zeros(prepared.shapes.table.shape[0])
    np.maximum.at(most, prepared.shapes.of_gang, gangs.value_micro_usd.astype(float))
    pairs = pairs_of(prepared, most)
    everyone = np.flatnonzero(prepared.standing.open)
    row_price = clear(prepared, pairs, prepared.capacity, everyone)
    return Market(pairs, row_price, dual(prepared, row_price))


def clear(prepared: Prepared, pairs: tuple[Int, NDArray[np.int32]], supply: Int, buyers: Int) -> Float:
    """Row prices that clear `supply` (slots,) among some gangs."""
    gangs = prepared.problem.gangs
    return clearing_prices(
        pairs[0],
        pairs[1],
        prepared.shapes.of_gang[buyers],
        gangs.gpus[buyers],
        gangs.value_micro_usd[buyers],
        prepared.rows.start,
        prepared.rows.ask,
        np.append(0, np.cumsum(supply)),
    )


class Guide(NamedTuple):
    """Slot prices that placements follow, and their walk."""

    price: Float
    walk: Arrays


def guide(prepared: Prepared, row_price: Float) -> Guide:
    """Guidance from row prices."""
    asks = prepared.ask.astype(float)
    price = (1 - ASK_WEIGHT) * np.maximum(asks, row_price[prepared.rows.row_of]) + ASK_WEIGHT * asks
    return Guide(price, prepared.walk(price))


def weights(prepared: Prepared, minimum: Float) -> Float:
    """Value over cheapest price, (gangs,): who comes first. 0 for gangs that fit nowhere."""
    fits = np.isfinite(minimum) & (minimum > 0)
    weight = np.where(fits, prepared.value / np.where(fits, minimum, 1.0), 0.0)
    return np.where(prepared.problem.gangs.must_serve, np.inf, weight)


def first_plan(prepared: Prepared, market: Market) -> Assignment:
    """Keep what runs, then insert by weight."""
    assignment = Assignment(prepared)
    assignment.keep_what_runs()
    insert_by_weight(assignment, market, np.ones(prepared.value.size, dtype=bool))
    return assignment


def insert_by_weight(assignment: Assignment, market: Market, which: NDArray[np.bool_]) -> None:
    """Place what can be placed of some gangs (gangs,), the most worth first."""
    prepared = assignment.prepared
    order = np.argsort(-weights(prepared, market.dual.minimum), kind="stable")
    follow = guide(prepared, market.row_price)
    insert(
        order[which[order]],
        prepared.gangs,
        prepared.shape_arrays(prepared.placed),
        prepared.supply,
        follow.walk,
        follow.price,
        prepared.ask,
        prepared.value,
        assignment.state,
        prepared.work(),
    )


def divisible_gangs(prepared: Prepared) -> NDArray[np.bool_]:
    """Gangs that could stand in many places at once, (gangs,)."""
    gangs, choices = prepared.problem.gangs, prepared.placed
    room = np.zeros(choices.first.size - 1)
    shape_of = np.repeat(np.arange(room.size), np.diff(choices.first))
    np.maximum.at(room, shape_of, choices.table[:, C_ROOM].astype(float))
    spread = ~gangs.one_fabric & ~np.isfinite(gangs.max_cluster_rtt_ms)
    return spread & (room[prepared.shapes.of_gang] >= DIVISIBLE_ROOM * gangs.replicas)


def prices_of_the_rest(
    prepared: Prepared, market: Market, assignment: Assignment, divisible: NDArray[np.bool_]
) -> Float:
    """Row prices of what indivisible gangs leave: what a node is worth to those who can still come or go."""
    gang, slot, take = assignment.entries()
    mine = divisible[gang]
    supply = assignment.free.copy()
    np.add.at(supply, slot[mine], take[mine] * prepared.problem.gangs.gpus_per_replica[gang[mine]])
    return clear(prepared, market.pairs, supply, np.flatnonzero(divisible & prepared.standing.open))


def task_of(prepared: Prepared, market: Market) -> Task:
    """What stays the same through all passes of the search."""
    must_serve, asks = prepared.problem.gangs.must_serve, prepared.ask.astype(float)
    bonus = np.where(must_serve, MUST_SERVE_BONUS, 0.0)
    alone = cheapest_alone(prepared, prepared.placed, prepared.walk(asks), asks)
    return Task(
        prepared=prepared,
        value=prepared.value + bonus,
        weight=np.minimum(weights(prepared, market.dual.minimum), 1e9),
        reach=reach_of(prepared),
        able=prepared.standing.open & (alone < prepared.value + bonus),
    )


def improve_in_parts(run: Run, task: Task, market: Market, assignment: Assignment, searchers: Searchers) -> bool:
    """Passes of ruin and recreate until nothing helps or a limit is reached; True if the clock ended it."""
    prepared, able = task.prepared, task.able
    if not able.any():
        return False
    divisible = divisible_gangs(prepared)
    random = np.random.default_rng(run.limits.seed)
    passes = PASSES_MAX if run.limits.work is None else run.limits.work
    before = assignment.welfare()
    for number in range(passes):
        if run.left_s <= 0:
            return True
        if number % PASSES_PER_PRICE == 0:
            follow = guide(prepared, prices_of_the_rest(prepared, market, assignment, divisible))
        whole = number % PASSES_PER_PRICE == PASSES_PER_PRICE - 1
        owner, parts = (np.where(able, 0, -1), 1) if whole else cut(task.reach, able, random)
        promise = np.sqrt(regrets(prepared, market, assignment)) + LEAST_PROMISE
        jobs = [part_of(number, owner, promise, random) for number in range(parts)]
        searchers.search(task, follow.price, follow.walk, owner, jobs, assignment, run.left_s)
        welfare = assignment.welfare()
        run.report("improve", welfare, market.dual.bound)
        if whole and run.limits.work is None:
            if welfare - before < LEAST_GAIN * max(welfare, 1):
                break
            before = welfare
    return run.left_s <= 0


def regrets(prepared: Prepared, market: Market, assignment: Assignment) -> Float:
    """What each gang lacks to the best it could have at the market's prices, (gangs,), dollars per hour."""
    gang, slot, take = assignment.entries()
    paid = take * prepared.problem.gangs.gpus_per_replica[gang] * market.dual.price[slot]
    gained = np.where(assignment.placed, prepared.value, 0.0) - np.bincount(gang, paid, prepared.value.size)
    wished = np.where(prepared.standing.open, np.maximum(prepared.value - market.dual.minimum, 0.0), 0.0)
    regret: Float = np.maximum(wished - gained, 0.0) / 1e6
    return regret


def part_of(number: int, owner: Int, promise: Float, random: np.random.Generator) -> Part:
    """The rounds of one part: gangs drawn by promise."""
    mine = np.flatnonzero(owner == number)
    rounds = int(np.ceil(mine.size * ROUNDS_PER_GANG))
    chance = promise[mine] / promise[mine].sum() if rounds else None
    seeds = random.choice(mine, rounds, p=chance) if rounds else mine
    return Part(number, int(random.integers(1, 1 << 62)), seeds)


def solve_to_the_end(problem: Problem, task: Task, assignment: Assignment, seed: int) -> StrongerBound | None:
    """Solve small components exactly; the bound that proves if the whole problem was small."""
    prepared = task.prepared
    nodes = np.diff(prepared.rows.start[prepared.rows.model_start])
    parts = components(task.reach.models, task.able, nodes)
    bound = solve_small(problem, assignment, parts, seed)
    return None if bound is None else StrongerBound(bound + prepared.constant, "CP-SAT")


def keep_orderable(problem: Problem, market: Market, assignment: Assignment) -> None:
    """Give up what keeps the moves from being made one by one; new work takes what is left, since it starts
    last.
    """
    runs = assignment.prepared.standing.runs
    if not runs.any():
        return
    request, node, gpus = assignment.rows()
    plan = orderable(problem, Placed(request, node, gpus))
    if not np.array_equal(plan.request, request) or not np.array_equal(plan.node, node):
        assignment.become(plan)
        insert_by_weight(assignment, market, ~runs)


def finish(
    problem: Problem,
    run: Run,
    prepared: Prepared,
    market: Market,
    assignment: Assignment,
    stronger: StrongerBound | None,
    ended_by_clock: bool,
) -> Plan:
    """The plan as rows, with its proof."""
    request, node, gpus = assignment.rows()
    nodes = prepared.problem.nodes
    node_price = nodes.ask_micro_usd.astype(float)
    node_price[prepared.rows.node] = market.dual.price
    welfare = assignment.welfare()
    bound = max(int(np.ceil(market.dual.bound)), welfare)
    run.report("explain", welfare, float(bound))
    refusals = explain(problem, prepared, request, node, gpus, node_price, market.dual.minimum)
    run.report("done", welfare, float(bound))
    return Plan(
        request=request,
        node=node,
        gpus=gpus,
        welfare=welfare,
        node_price=node_price,
        bound=bound,
        stronger=stronger,
        history=tuple(run.history),
        ended_by_clock=ended_by_clock,
        refusals=refusals,
        row_table=prepared.rows.table,
    )
