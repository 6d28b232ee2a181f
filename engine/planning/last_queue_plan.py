"""An earlier plan of a queue as the start of the next one: its prices, and what of it can stand as it stood.

A placement is taken over if the queue has its request again, at the same size, and its nodes keep every constraint
of the request as both are now. Node numbers never change; whether there is room is the solver's to see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.planning.running_checks import broken_rules
from engine.planning.snapshot import Gang, Queue
from solvers.planning.plan import Plan, Start

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


def start_of(plan: Plan, gangs: tuple[Gang, ...], priced: Flags, queue: Queue) -> Start:
    """`gangs`: what the rows of the earlier `plan` are about; `priced` (nodes then,): had capacity."""
    problem = queue.problem
    request = _numbers(gangs, queue)[plan.request]
    rows = np.flatnonzero(request >= 0)
    rows = rows[np.lexsort((plan.node[rows], request[rows]))]
    request, node, gpus = request[rows], plan.node[rows], plan.gpus[rows]
    whole = np.bincount(request, weights=gpus, minlength=problem.gangs.gpus.size) == problem.gangs.gpus
    whole[request[gpus % problem.gangs.gpus_per_replica[request] != 0]] = False
    for broken, _ in broken_rules(problem, request, node, gpus):
        whole[request[broken]] = False
    stays = whole[request]
    price = np.full(problem.capacity.size, np.nan)
    price[: priced.size] = np.where(priced, plan.node_price, np.nan)
    return Start(request[stays], node[stays], gpus[stays], price)


def _numbers(gangs: tuple[Gang, ...], queue: Queue) -> Int:
    """For each gang of the earlier queue its number in this one, -1 if it is not there or was a lease."""
    number = {gang.request.request_id: index for index, gang in enumerate(queue.gangs) if not gang.lease_id}
    found = (-1 if gang.lease_id else number.get(gang.request.request_id, -1) for gang in gangs)
    return np.fromiter(found, dtype=np.int64, count=len(gangs))
