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
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning.assignment import Assignment
from solvers.planning.choices import C_ROOM, Choices
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
from solvers.planning.uprooted import place_uprooted, uprooted
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
ASK_WEIGHT = 0.1
"""Guidance prices lean this much towards the asks: among equally scarce nodes the cheap ones go first."""
LEAST_PROMISE = 0.3
"""Of a gang without regret, against the root of its dollars per hour: it may still be in the way."""
REPAIR_GANGS_MAX = 2_000
"""In larger problems another pass of ruin and recreate gains two to three times as much in the same time."""
REPAIR_ROUNDS = 24
REPAIR_DETERMINISTIC_TIME = 0.02
DIVISIBLE_ROOM = 8
"""A gang is divisible, for prices, if a choice could hold so many of it."""
MUST_SERVE_BONUS = 1e15
"""Larger than any welfare: no round may drop work that must stay served."""


NO_LIMITS = Limits()


@dataclass(slots=True)
class Run:
    """What a run keeps: the clock, what it reported, and whether the clock ever ended anything."""

    limits: Limits
    on_progress: OnProgress | None
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    history: list[Progress] = field(default_factory=list)
    ended_by_clock: bool = False

    def __post_init__(self) -> None:
        """The run begins now."""
        self.started = self.clock()

    def report(self, phase: str, welfare: int | None, bound: float | None) -> None:
        """Note and pass on one step."""
        whole = None if bound is None else int(np.ceil(bound))
        step = Progress(phase, self.clock() - self.started, welfare, whole)
        self.history.append(step)
        if self.on_progress is not None:
            self.on_progress(step)

    @property
    def left_s(self) -> float:
        """Seconds left to search, inf without a limit; what follows takes half as long again as pricing did."""
        if self.limits.time_s is None:
            return float("inf")
        priced = [step.elapsed_s for step in self.history if step.phase in ("price", "place")]
        reserve_s = 1.5 * (priced[1] - priced[0]) if len(priced) == 2 else 0.0
        return self.limits.time_s - reserve_s - (self.clock() - self.started)

    def is_out_of_time(self) -> bool:
        """Whether to stop here. Whoever asks stops if so: the run is then one that the clock ended."""
        if self.left_s <= 0:
            self.ended_by_clock = True
        return self.ended_by_clock


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
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """The best plan found within the limits, with the prices that prove how good it is."""
    run = Run(limits, on_progress, clock)
    run.report("prepare", None, None)
    prepared = prepare(problem)
    run.report("price", None, None)
    market = price(prepared)
    assignment = first_plan(prepared, market)
    run.report("place", assignment.welfare(), market.dual.bound)
    task = task_of(prepared, market)
    search(problem, run, task, market, assignment, searchers or Threads())
    reached = assignment.copied()
    stronger = None
    small = np.count_nonzero(prepared.standing.open) <= REPAIR_GANGS_MAX
    if small and passes_of(limits) > 0 and not run.is_out_of_time():
        repair_neighbourhoods(run, problem, task, market, assignment)
        stronger = solve_to_the_end(problem, task, assignment, limits.seed)
    if keep_orderable(problem, assignment):
        insert_by_weight(assignment, market, moving_last(problem, prepared))
    assignment.restore_if_better(reached)
    return finish(problem, run, prepared, market, assignment, stronger)


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
    """Keep what runs, place who lost its nodes where nobody has to make room, then insert the others by weight."""
    assignment = Assignment(prepared)
    assignment.keep_what_runs()
    moving = uprooted(assignment)
    inserted = inserter(assignment, market)
    order = by_weight(assignment, market)
    place_uprooted(assignment, order[moving[order]], inserted)
    inserted(order[~moving[order]])
    return assignment


def by_weight(assignment: Assignment, market: Market) -> Int:
    """All gangs, the most worth first."""
    return np.argsort(-weights(assignment.prepared, market.dual.minimum), kind="stable")


def inserter(assignment: Assignment, market: Market) -> Callable[[Int], None]:
    """Places the gangs it is given, in their order, where the market's prices are least."""
    prepared = assignment.prepared
    shapes, work = prepared.shape_arrays(prepared.placed), prepared.work()
    follow = guide(prepared, market.row_price)

    def insert_all(order: Int) -> None:
        follow.walk[-1][:] = True  # what is free may have changed: every block is counted again
        insert(
            order,
            prepared.gangs,
            shapes,
            prepared.supply,
            follow.walk,
            follow.price,
            prepared.ask,
            prepared.value,
            assignment.state,
            work,
        )

    return insert_all


def insert_by_weight(assignment: Assignment, market: Market, which: NDArray[np.bool_]) -> None:
    """Place what can be placed of some gangs (gangs,), the most worth first."""
    order = by_weight(assignment, market)
    inserter(assignment, market)(order[which[order]])


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
    return Task(
        prepared=prepared,
        value=prepared.value + must_serve_bonus(prepared),
        weight=np.minimum(weights(prepared, market.dual.minimum), 1e9),
        reach=reach_of(prepared, prepared.placed),
        able=able_gangs(prepared, prepared.placed),
    )


def must_serve_bonus(prepared: Prepared) -> Float:
    """What makes work that must stay served worth more than anything, (gangs,)."""
    return np.where(prepared.problem.gangs.must_serve, MUST_SERVE_BONUS, 0.0)


def able_gangs(prepared: Prepared, choices: Choices) -> NDArray[np.bool_]:
    """Gangs that some choice could serve at the asks within their value, (gangs,)."""
    asks = prepared.ask.astype(float)
    alone = cheapest_alone(prepared, choices, prepared.walk(asks), asks)
    return prepared.standing.open & (alone < prepared.value + must_serve_bonus(prepared))


def improve_in_parts(
    run: Run, task: Task, market: Market, assignment: Assignment, searchers: Searchers, passes: int
) -> None:
    """Passes of ruin and recreate until nothing helps or a limit is reached."""
    prepared, able = task.prepared, task.able
    if not able.any():
        return
    divisible = divisible_gangs(prepared)
    random = np.random.default_rng(run.limits.seed)
    before = assignment.welfare()
    for number in range(passes):
        if run.is_out_of_time():
            return
        if number % PASSES_PER_PRICE == 0:
            follow = guide(prepared, prices_of_the_rest(prepared, market, assignment, divisible))
        whole = number % PASSES_PER_PRICE == PASSES_PER_PRICE - 1
        owner, parts = (np.where(able, 0, -1), 1) if whole else cut(task.reach, able, random)
        promise = np.sqrt(regrets(prepared, market, assignment)) + LEAST_PROMISE
        jobs = [part_of(number, owner, promise, random) for number in range(parts)]
        searchers.search(task, follow.price, follow.walk, owner, jobs, assignment, run.left_s)
        run.is_out_of_time()  # if so, the pass was cut short
        welfare = assignment.welfare()
        run.report("improve", welfare, market.dual.bound)
        if whole and run.limits.work is None:
            if welfare - before < LEAST_GAIN * max(welfare, 1):
                break
            before = welfare


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


def passes_of(limits: Limits) -> int:
    """How many passes of ruin and recreate the limits allow."""
    return PASSES_MAX if limits.work is None else limits.work


def repair_neighbourhoods(run: Run, problem: Problem, task: Task, market: Market, assignment: Assignment) -> None:
    """Large-neighbourhood search with CP-SAT. Imported here: CP-SAT takes long to import."""
    from solvers.planning.neighbourhoods import improve_by_repair

    improve_by_repair(
        problem,
        task,
        market.dual.minimum,
        market.dual.price,
        assignment,
        np.random.default_rng(run.limits.seed),
        REPAIR_ROUNDS,
        REPAIR_DETERMINISTIC_TIME,
        run.is_out_of_time,
    )
    run.report("repair", assignment.welfare(), market.dual.bound)


def solve_to_the_end(problem: Problem, task: Task, assignment: Assignment, seed: int) -> StrongerBound | None:
    """Solve small components exactly; the bound that proves if the whole problem was small.

    Components are those of the relaxed choices: what no clique of the search serves may still be served.
    """
    prepared = task.prepared
    nodes = np.diff(prepared.rows.start[prepared.rows.model_start])
    able = able_gangs(prepared, prepared.relaxed)
    parts = components(reach_of(prepared, prepared.relaxed).models, able, nodes)
    bound = solve_small(problem, assignment, parts, seed)
    return None if bound is None else StrongerBound(bound + prepared.constant, "CP-SAT")


def moving_last(problem: Problem, prepared: Prepared) -> NDArray[np.bool_]:
    """Gangs that cannot spoil an order of moves: new ones, and displaced ones with nothing left to keep."""
    standing, running = prepared.standing, problem.running
    stays, displaced = np.zeros((2, standing.runs.size), dtype=bool)
    stays[running.request[np.concatenate([standing.kept, standing.pinned])]] = True
    displaced[running.request[~running.pinned & (problem.capacity[running.node] == 0)]] = True
    last: NDArray[np.bool_] = ~standing.runs | (displaced & ~stays)
    return last


def search(
    problem: Problem, run: Run, task: Task, market: Market, assignment: Assignment, searchers: Searchers
) -> None:
    """Improve the first plan.

    Where gangs run, the search has two legs. In the first only those move that cannot spoil an order of moves, so
    its plan always has one. In the second everybody does, and what blocks the order is given up again; if that
    costs more than the second leg gained, the first leg's plan stands.
    """
    passes = passes_of(run.limits)
    if not task.prepared.standing.runs.any():
        improve_in_parts(run, task, market, assignment, searchers, passes)
        return
    last = moving_last(problem, task.prepared)
    late = replace(task, able=task.able & last)
    improve_in_parts(run, late, market, assignment, searchers, passes)
    reached = assignment.copied()
    improve_in_parts(run, task, market, assignment, searchers, passes)
    if keep_orderable(problem, assignment):
        insert_by_weight(assignment, market, last)
        improve_in_parts(run, late, market, assignment, searchers, min(passes, PASSES_PER_PRICE))
    assignment.restore_if_better(reached)


def keep_orderable(problem: Problem, assignment: Assignment) -> bool:
    """Give up what keeps the moves from being made one by one; True if anything was."""
    if not assignment.prepared.standing.runs.any():
        return False
    request, node, gpus = assignment.rows()
    plan = orderable(problem, Placed(request, node, gpus))
    if np.array_equal(plan.request, request) and np.array_equal(plan.node, node):
        return False
    assignment.become(plan)
    return True


def finish(
    problem: Problem,
    run: Run,
    prepared: Prepared,
    market: Market,
    assignment: Assignment,
    stronger: StrongerBound | None,
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
        ended_by_clock=run.ended_by_clock,
        refusals=refusals,
        row_table=prepared.rows.table,
    )
