"""Why gangs are not served: one reason each, the scarce set behind it, and what it would be charged alone.

The reasons are those of docs/planning.md, rule 9; the mathematics of scarce sets stands in
docs/planning-refusals.md. The plan is taken as it is: nothing is solved anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from solvers.planning.dual import Alone
from solvers.planning.nest import Market, grouped
from solvers.planning.prepare import Prepared
from solvers.planning.problem import Problem
from solvers.planning.relaxed_market import in_units
from solvers.planning.scarcity import ScarceSet, scarce_sets

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
UNKNOWN_PRICE = -1


class Reason(IntEnum):
    """Codes of the reasons; their names are the words of `refusals.parquet`."""

    NO_FEASIBLE_PLACEMENT = 0
    PRICE_TOO_LOW = 1
    SCARCE_CAPACITY = 2
    DISPLACED = 3
    PREEMPTED = 4


@dataclass(frozen=True, slots=True)
class Refusals:
    """A row per gang that is not served, ascending; columns of shape (rows,).

    `reason`: codes of `Reason`. `scarce_set`: an index into `sets`, -1 where the gang fits nowhere within its bid.
    `price_alone`: micro-USD per GPU-hour, what its cheapest placement in an otherwise empty fleet would be charged
    on average at the prices of the plan, moves included; -1 without any placement. A gang that bids less is not
    worth its place at these prices; one that bids as much may be left out all the same, since it is indivisible.
    """

    gang: Int
    reason: NDArray[np.int8]
    scarce_set: Int
    price_alone: Int
    sets: tuple[ScarceSet, ...]


def charges(prepared: Prepared, price: Float) -> Alone:
    """What gangs would be charged in an otherwise empty fleet at `price` (slots,), in whole micro-USD."""
    return Alone(prepared, prepared.placed, np.maximum(prepared.ask, np.ceil(price)))


def explain(
    problem: Problem,
    prepared: Prepared,
    request: Int,
    node: Int,
    gpus: Int,
    charged: Alone,
    minimum: Float,
    at_ask: Float,
) -> Refusals:
    """Explain a plan's refusals. `request`, `node`, `gpus`: its placements, pinned rows included.

    `charged`: as in `charges`; `minimum` (gangs,): m(p), inf where a gang fits nowhere;
    `at_ask` (gangs,): as in `Task`.
    """
    gangs = problem.gangs.replicas.size
    served = np.zeros(gangs, dtype=bool)
    served[request] = True
    refused = np.flatnonzero(~served & prepared.standing.open)
    paid = np.full(gangs, np.inf)
    possible = refused[np.isfinite(minimum[refused])]
    paid[possible] = charged.of(possible)
    within_bid = at_ask[refused] <= prepared.value[refused]
    competing = served.copy()
    competing[refused[within_bid]] = True
    open_gpus = beyond_pinned(problem, request, node, gpus)
    on = open_gpus > 0
    slot, used = prepared.slot_of[node[on]], open_gpus[on] * problem.milli
    if problem.milli > 1:
        used = np.where(problem.gangs.is_part(request[on]), problem.wanted()[request[on]], used)
    free = in_units(prepared, prepared.capacity).copy()
    np.subtract.at(free, slot, used)
    market = market_of(prepared, competing, free, charged.price, (request[on], slot, used))
    scarce_set, sets = scarce_sets(market, prepared, free // problem.milli, refused[within_bid])
    index = np.full(refused.size, -1, dtype=np.int64)
    index[within_bid] = scarce_set
    return Refusals(
        gang=refused,
        reason=reasons(problem, at_ask, within_bid, refused),
        scarce_set=index,
        price_alone=average_price(problem, prepared, paid, refused),
        sets=sets,
    )


def reasons(problem: Problem, at_ask: Float, within_bid: Flags, refused: Int) -> NDArray[np.int8]:
    """The code of each refused gang. What ran is DISPLACED if it had a node that went away, else PREEMPTED."""
    running, gangs = problem.running, problem.gangs.replicas.size
    runs, displaced = np.zeros((2, gangs), dtype=bool)
    runs[running.request] = True
    displaced[running.request[~running.pinned & ~problem.live[running.node]]] = True
    code = np.select(
        [displaced[refused], runs[refused], np.isinf(at_ask[refused]), ~within_bid],
        [Reason.DISPLACED, Reason.PREEMPTED, Reason.NO_FEASIBLE_PLACEMENT, Reason.PRICE_TOO_LOW],
        Reason.SCARCE_CAPACITY,
    )
    return code.astype(np.int8)


def average_price(problem: Problem, prepared: Prepared, charged: Float, refused: Int) -> Int:
    """Per GPU, rounded up, over the whole gang; `UNKNOWN_PRICE` for no placement."""
    known = np.isfinite(charged[refused])
    price = np.full(refused.size, UNKNOWN_PRICE, dtype=np.int64)
    total = charged[refused[known]] + prepared.standing.pinned_ask[refused[known]]
    price[known] = np.ceil(total * problem.milli / problem.wanted()[refused[known]])
    return price


def beyond_pinned(problem: Problem, request: Int, node: Int, gpus: Int) -> Int:
    """GPUs of each placement that are not pinned: pinned ones are not part of any capacity."""
    running, nodes = problem.running, problem.capacity.size
    stays = running.pinned & np.isin(running.request, request)
    keys = request * nodes + node
    order = np.argsort(keys, kind="stable")
    pinned_keys = running.request[stays] * nodes + running.node[stays]
    left = gpus.copy()
    left[order[np.searchsorted(keys[order], pinned_keys)]] -= running.gpus[stays]
    return left


def market_of(prepared: Prepared, competing: Flags, free: Int, price: Float, placed: tuple[Int, ...]) -> Market:
    """The market of competing gangs at slot prices. `free` (slots,): what is left; `placed`: gang, slot, GPUs.

    GPUs are counted in units of `Problem.milli`.
    """
    gangs, rows = prepared.problem.gangs, prepared.rows
    per_row = rows.start[:-1]
    gang, slot, gpus = placed
    order, first_occupant = grouped(rows.row_of[slot], np.arange(gang.size), per_row.size)
    return Market(
        rows=rows,
        shapes=prepared.shapes,
        demand=np.where(competing, prepared.problem.wanted(), 0),
        value=gangs.value_micro_usd,
        free_before=np.append(0, np.cumsum(free)),
        capacity=np.diff(np.append(0, np.cumsum(in_units(prepared, prepared.capacity)))[rows.start]),
        price=np.minimum.reduceat(price, per_row) if per_row.size else np.empty(0),
        first_occupant=first_occupant,
        occupant=gang[order],
        occupant_gpus=gpus[order],
    )
