"""One gang after the other, each at its cheapest placement by given prices: what several peers share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.cheapest import cheapest
from solvers.planning.moves import Placed
from solvers.planning.prepare import Prepared

Int = NDArray[np.int64]
Float = NDArray[np.float64]


def placed_in_order(prepared: Prepared, order: Int, price: Float, walk: Arrays) -> Placed:
    """Serve the gangs of `order` that are worth more than their asks. `price` (slots,) decides where, asks if.

    `walk`: the slots by `price`.
    """
    rows = int(prepared.problem.gangs.replicas[order].sum())
    out = tuple(np.empty(rows, dtype=np.int64) for _ in range(3))
    count = fill(
        order,
        prepared.gangs,
        prepared.shape_arrays(prepared.placed),
        prepared.supply,
        walk,
        (prepared.capacity.copy(), *prepared.room[1:]),
        price,
        prepared.ask,
        prepared.value,
        prepared.work(),
        out,
    )
    return by_request(prepared, *(column[:count] for column in out))


def by_request(prepared: Prepared, request: Int, slot: Int, gpus: Int) -> Placed:
    """Placements on slots as placements on nodes, sorted by request then node."""
    node = prepared.rows.node[slot]
    order = np.lexsort((node, request))
    return Placed(request[order], node[order], gpus[order])


@kernel
def fill(
    order: Int,
    gangs: Arrays,
    shapes: Arrays,
    supply: Arrays,
    walk: Arrays,
    room: Arrays,
    price: Float,
    ask: Int,
    value: Float,
    work: Arrays,
    out: Arrays,
) -> int:
    """Write gang, slot and GPUs of each placement into `out`; how many. Free GPUs in `room` are mutated."""
    size, free = gangs[1], room[0]
    out_gang, out_slot, out_gpus = out
    count = 0
    for gang in order:
        _, used, choice = cheapest(gang, gangs, shapes, supply, walk, room, price, np.inf, work)
        if choice < 0:
            continue
        cost = np.int64(0)
        for i in range(used):
            cost += ask[work[0][i]] * work[1][i] * size[gang]
        if cost >= value[gang]:
            continue
        for i in range(used):
            slot, gpus = work[0][i], work[1][i] * size[gang]
            free[slot] -= gpus
            out_gang[count], out_slot[count], out_gpus[count] = gang, slot, gpus
            count += 1
    return count
