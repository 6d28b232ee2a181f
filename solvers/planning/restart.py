"""Beginning from an earlier plan: its prices, and every gang of it that can stand where it stood.

After a small change of fleet or queue most prices and most placements are right already. D is a proof at any
prices, so that the relaxed market need not be cleared again: a row takes the median of the prices that its nodes
had above their asks (nodes whose free GPUs changed bring the price of another row with them), and only gangs that
are new, or lost their nodes, are placed anew.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, leaf
from solvers.planning.assignment import Assignment
from solvers.planning.cheapest import true_cost
from solvers.planning.dual import Alone, dual
from solvers.planning.first_plan import first_plan, insert_by_weight
from solvers.planning.fold import MODEL, TIER
from solvers.planning.parts import cut, reach_of
from solvers.planning.passes import lasting, task_of
from solvers.planning.places import blocks
from solvers.planning.plan import Start
from solvers.planning.prepare import Prepared
from solvers.planning.problem import NO_CARD
from solvers.planning.relaxed_market import NEAR, Market, guide, regrets, weights
from solvers.planning.run import Run
from solvers.planning.search import is_part, put, room_of
from solvers.planning.seats import replicas_in, seat_in
from solvers.planning.workers import Part, Searchers, Task

Int = NDArray[np.int64]
Float = NDArray[np.float64]

LOST_ROUNDS, LOST_TRIES = 3, 2
"""How often gangs that lost their nodes are tried, and as how many seeds at a time."""
REGRET_ROUNDS, REGRET_SHARE = 5, 25
"""How often, and of how many gangs one at a time, those with the most regret are tried."""


def begin_again(run: Run, prepared: Prepared, start: Start) -> tuple[Task, Market, Assignment]:
    """The first plan from an earlier one, its market, and what mending it needs.

    Only of gangs that do not stand it is asked whether they could, and only of them and of those with regret
    choices are shortlisted: mending begins with these.
    """
    with ThreadPoolExecutor(1) as beside:
        at_ask = np.zeros(prepared.value.size)
        new = ~served(prepared, start)
        alone = Alone(prepared, prepared.placed, prepared.ask.astype(float))
        asked = beside.submit(alone.of, np.flatnonzero(new))
        reach = beside.submit(reach_of, prepared, prepared.placed)
        market = standing_market(prepared, start)
        assignment = restarted(prepared, market, start)
        at_ask[new] = asked.result()
    run.report("place", assignment.welfare(), market.dual.bound)
    lost = np.flatnonzero(~new & ~assignment.placed)
    at_ask[lost] = alone.of(lost)
    likely = ~assignment.placed & (weights(prepared, market.dual.minimum) > NEAR)
    likely |= regrets(prepared, market, assignment) > 0
    likely[lost] = True
    return task_of(prepared, market, at_ask, reach.result(), likely), market, assignment


def standing_market(prepared: Prepared, start: Start) -> Market:
    """The market at the earlier prices, and the bound that they prove now."""
    row_price = row_prices(prepared, start.node_price)
    with ThreadPoolExecutor(1) as beside:
        follow = beside.submit(guide, prepared, row_price)
        return Market(None, row_price, dual(prepared, row_price), follow.result())


def row_prices(prepared: Prepared, node_price: Float) -> Float:
    """Prices of the rows, (rows,); a row of nodes that had none takes what its model and tier cost elsewhere."""
    rows = prepared.rows
    price = node_price[rows.node]
    known, scarce = np.isfinite(price), price > rows.ask
    kind = rows.table[:, MODEL] * (rows.table[:, TIER].max(initial=0) + 1) + rows.table[:, TIER]
    own = medians(rows.row_of[scarce], price[scarce], rows.table.shape[0])
    of_kind = medians(kind[rows.row_of[scarce]], price[scarce], int(kind.max(initial=0)) + 1)
    strange = np.bincount(rows.row_of[known], minlength=own.size) == 0
    row_price: Float = np.where(strange, of_kind[kind], own)
    return row_price


def medians(group: Int, price: Float, groups: int) -> Float:
    """The upper median price of each group, (groups,); 0 where there is none."""
    order = np.lexsort((price, group))
    begin = np.searchsorted(group[order], np.arange(groups + 1))
    found = np.diff(begin) > 0
    middle = (begin[:-1] + begin[1:]) // 2
    median = np.zeros(groups)
    median[found] = price[order[middle[found]]]
    return median


def restarted(prepared: Prepared, market: Market, start: Start) -> Assignment:
    """The earlier plan as far as it still fits, completed: first gangs that lost nodes, then the others."""
    return first_plan(prepared, market, lambda assignment: stand_again(assignment, market, start))


def stand_again(assignment: Assignment, market: Market, start: Start) -> None:
    """Keep what runs; put the other gangs of the earlier plan where they stood, those without room elsewhere."""
    assignment.keep_what_runs()
    prepared = assignment.prepared
    gangs, slot = prepared.problem.gangs, prepared.slot_of[start.node]
    begin = np.searchsorted(start.request, np.arange(gangs.replicas.size + 1))
    take = start.gpus // gangs.gpus_per_replica[start.request]
    may = served(prepared, start)
    may[start.request[slot < 0]] = False
    order = np.argsort(-prepared.value / np.maximum(gangs.gpus, 1), kind="stable")
    walk: Arrays = (None, None, np.zeros((prepared.capacity.size, 0), dtype=np.int32), *blocks(0))
    arrays = (prepared.gangs, assignment.state, walk, prepared.ask, prepared.value)
    put_where_room(order[may[order]], begin, slot, take, *arrays)
    insert_by_weight(assignment, market, served(prepared, start) & ~assignment.placed)


def served(prepared: Prepared, start: Start) -> NDArray[np.bool_]:
    """Gangs that the earlier plan served and that do not run, (gangs,)."""
    found = np.zeros(prepared.value.size, dtype=bool)
    found[start.request] = True
    return found & prepared.standing.open & ~prepared.standing.runs


@leaf
def put_where_room(
    order: Int, begin: Int, slot: Int, take: Int, gangs: Arrays, state: Arrays, walk: Arrays, ask: Int,
    value: Float,
) -> None:  # fmt: skip
    """Place gangs on the slots listed from `begin[gang]` on, in this order, each that has room and is worth it."""
    free, beside = state[4], gangs[14].size > 0
    for gang in order:
        first, last = begin[gang], begin[gang + 1]
        fits = true_cost(gang, gangs, last - first, slot[first:last], take[first:last], ask) < value[gang]
        part = is_part(gang, gangs)
        for at in range(first, last):
            if part:
                fits = fits and seat_in(slot[at], gang, gangs, room_of(state)) != NO_CARD
            elif beside:
                fits = fits and replicas_in(slot[at], gang, gangs, room_of(state)) >= take[at]
            else:
                fits = fits and free[slot[at]] >= take[at] * gangs[1][gang]
        if fits:
            put(gang, gangs, last - first, slot[first:last], take[first:last], NO_CARD, state, walk, ask)


def mend(run: Run, task: Task, market: Market, assignment: Assignment, searchers: Searchers, start: Start) -> None:
    """Make room for gangs that lost their nodes, then for those with the most regret."""
    follow = lasting(market.follow, task)
    random = np.random.default_rng(run.limits.seed)
    for number in range(LOST_ROUNDS + REGRET_ROUNDS):
        if run.is_out_of_time():
            return
        owner, parts = cut(task.reach, task.able, random)
        if number < LOST_ROUNDS:
            lost = np.flatnonzero(served(task.prepared, start) & ~assignment.placed & task.able)
            seeds = random.permutation(np.repeat(lost, LOST_TRIES))
        else:
            seeds = by_regret(task, market, assignment, random)
        own = random.integers(1, 1 << 62, parts).tolist()
        jobs = [Part(each, own[each], seeds[owner[seeds] == each]) for each in range(parts)]
        searchers.search(task, follow.price, follow.walk, owner, jobs, assignment, run.left_s)
    run.report("mend", assignment.welfare(), market.dual.bound)


def by_regret(task: Task, market: Market, assignment: Assignment, random: np.random.Generator) -> Int:
    """Some gangs, drawn by their regret."""
    regret = np.where(task.able, regrets(task.prepared, market, assignment), 0.0)
    total = regret.sum()
    if total <= 0:
        return np.empty(0, dtype=np.int64)
    return random.choice(regret.size, -(-regret.size // REGRET_SHARE), p=regret / total)
