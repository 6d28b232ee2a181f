"""Solving a joint problem: prices, a first plan, search, proof. Anytime, seeded, the same for a given work limit.

prepare   fold the fleet, list every gang's choices                           (prepare, fold, choices)
price     clear the relaxed market; D at these prices is the bound            (relaxed_market, clearing, dual)
place     keep what runs, then put gangs where their price is least           (first_plan)
improve   ruin and recreate in parts; prices are cleared anew now and then    (passes, parts, search)
prove     small components: CP-SAT, to the optimum or a stronger bound         (exact, repair)
order     only plans whose moves can be made one by one leave here            (moves, retreat)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvers.planning.assignment import Assignment
from solvers.planning.dual import Alone, alone_at_asks
from solvers.planning.exact import components, nodes_of_gangs, solve_small
from solvers.planning.first_plan import fill, first_plan, insert_by_weight
from solvers.planning.parts import models_of_gangs, reach_of
from solvers.planning.passes import (
    PASSES_MAX,
    PASSES_PER_PRICE,
    able_gangs,
    improve_in_parts,
    passes_of,
    task_of,
)
from solvers.planning.plan import Limits, OnProgress, Plan, Start, StrongerBound
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import Problem
from solvers.planning.refusals import charges, explain
from solvers.planning.relaxed_market import Market, price
from solvers.planning.restart import begin_again, mend
from solvers.planning.retreat import orderable
from solvers.planning.run import Run
from solvers.planning.workers import Searchers, Task, Threads

REPAIR_GANGS_MAX = 2_000
"""In larger problems another pass of ruin and recreate gains two to three times as much in the same time."""
REPAIR_ROUNDS = 24
REPAIR_DETERMINISTIC_TIME = 0.02
EXACT_DETERMINISTIC_TIME = 1.0
"""Of CP-SAT, for all small components: four to six seconds. Less work than a whole search has a share of it."""
MENDED_SHARE = 0.25
"""Of it, for a plan that began as an earlier one."""
NO_LIMITS = Limits()


def solve(
    problem: Problem,
    limits: Limits = NO_LIMITS,
    on_progress: OnProgress | None = None,
    searchers: Searchers | None = None,
    clock: Callable[[], float] = time.monotonic,
    start: Start | None = None,
) -> Plan:
    """The best plan found within the limits, with the prices that prove how good it is.

    From a `start`, an earlier plan, the first plan is that plan as far as it still fits, at its prices; it is
    mended, and improved further only as far as a work limit says.
    """
    run = Run(limits, on_progress, clock)
    task, market, assignment = begin(problem, run, start)
    prepared = task.prepared
    searchers, passes = searchers or Threads(), passes_of(limits)
    charged = charges(prepared, market.dual.price)
    refused = np.flatnonzero(~assignment.placed & np.isfinite(market.dual.minimum))
    with ThreadPoolExecutor(1) as beside:  # who is refused now will mostly stay so, and a core is free at first
        known = beside.submit(charged.of, refused)
        if start is not None:
            mend(run, task, market, assignment, searchers, start)
            passes = limits.work or 0
        search(problem, run, task, market, assignment, searchers, passes)
        known.result()
    reached = assignment.copied()
    stronger = None
    small = np.count_nonzero(prepared.standing.open) <= REPAIR_GANGS_MAX
    if small and passes_of(limits) > 0 and not run.is_out_of_time():
        if problem.spare is None:
            repair_neighbourhoods(run, problem, task, market, assignment)
        run.report("prove", assignment.welfare(), market.dual.bound)
        stronger = solve_to_the_end(run, problem, task, assignment, exact_time(limits, start))
    last = moving_last(problem, prepared)
    if keep_orderable(problem, assignment):
        insert_by_weight(assignment, market, last)
    assignment.restore_if_better(reached)
    fill(assignment, market, task.able & last)
    return finish(problem, run, task, market, assignment, charged, stronger)


def begin(problem: Problem, run: Run, start: Start | None = None) -> tuple[Task, Market, Assignment]:
    """A first plan at the market's prices, and what the search needs.

    Clearing the market and placing the first plan take one core; the others do meanwhile what does not wait for
    them.
    """
    run.report("prepare", None, None)
    prepared = prepare(problem)
    run.report("price", None, None)
    if start is not None:
        return begin_again(run, prepared, start)
    with ThreadPoolExecutor(1) as beside:
        at_ask = beside.submit(alone_at_asks, prepared, prepared.placed)
        reach = beside.submit(reach_of, prepared, prepared.placed)
        market = price(prepared)
        task = beside.submit(lambda: task_of(prepared, market, at_ask.result(), reach.result()))
        assignment = first_plan(prepared, market)
        run.report("place", assignment.welfare(), market.dual.bound)
        return task.result(), market, assignment


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


def exact_time(limits: Limits, start: Start | None) -> float:
    """Deterministic time for small components, by how much work the whole run may be."""
    if limits.work is None:
        return EXACT_DETERMINISTIC_TIME * (1.0 if start is None else MENDED_SHARE)
    return EXACT_DETERMINISTIC_TIME * min(limits.work / PASSES_MAX, 1.0)


def solve_to_the_end(
    run: Run, problem: Problem, task: Task, assignment: Assignment, deterministic_time: float
) -> StrongerBound | None:
    """Solve small components exactly; the bound that proves if the whole problem was small.

    Components are those of the relaxed choices: what no clique of the search serves may still be served.
    """
    prepared = task.prepared
    able = able_gangs(prepared, alone_at_asks(prepared, prepared.relaxed))
    parts = components(models_of_gangs(prepared, prepared.relaxed), able, nodes_of_gangs(prepared))
    bound = solve_small(problem, assignment, parts, run, deterministic_time)
    return None if bound is None else StrongerBound(bound + prepared.constant, "CP-SAT")


def moving_last(problem: Problem, prepared: Prepared) -> NDArray[np.bool_]:
    """Gangs that cannot spoil an order of moves: new ones, and displaced ones with nothing left to keep."""
    standing, running = prepared.standing, problem.running
    stays, displaced = np.zeros((2, standing.runs.size), dtype=bool)
    stays[running.request[np.concatenate([standing.kept, standing.pinned])]] = True
    displaced[running.request[~running.pinned & ~problem.live[running.node]]] = True
    last: NDArray[np.bool_] = ~standing.runs | (displaced & ~stays)
    return last


def search(
    problem: Problem,
    run: Run,
    task: Task,
    market: Market,
    assignment: Assignment,
    searchers: Searchers,
    passes: int,
) -> None:
    """Improve the first plan.

    Where gangs run, the search has two legs. In the first only those move that cannot spoil an order of moves, so
    its plan always has one. In the second everybody does, and what blocks the order is given up again; if that
    costs more than the second leg gained, the first leg's plan stands.
    """
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
    rows = assignment.rows()
    plan = orderable(problem, rows)
    if np.array_equal(plan.request, rows.request) and np.array_equal(plan.node, rows.node):
        return False
    assignment.become(plan)
    return True


def finish(
    problem: Problem,
    run: Run,
    task: Task,
    market: Market,
    assignment: Assignment,
    charged: Alone,
    stronger: StrongerBound | None,
) -> Plan:
    """The plan as rows, with its proof."""
    prepared = task.prepared
    request, node, gpus, card = assignment.rows()
    nodes = prepared.problem.nodes
    node_price = nodes.ask_micro_usd.astype(float)
    node_price[prepared.rows.node] = market.dual.price
    welfare = assignment.welfare()
    bound = max(int(np.ceil(market.dual.bound)), welfare)
    run.report("explain", welfare, float(bound))
    refusals = explain(problem, prepared, request, node, gpus, charged, market.dual.minimum, task.at_ask)
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
        card=card,
    )
