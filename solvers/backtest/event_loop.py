"""One market in time: gangs arrive, pay the posted price or not, run, and leave.

An arriving gang is served if its value is at least the posted price and enough GPUs are free; it then runs at
once for all its duration. Else it is priced out, or a stock-out: it would have paid, and there was no room.
Price and supply change at the start of an epoch only. If supply falls below what is in use, gangs are stopped,
the latest started first, until the rest fits: GPUs in use never exceed the supply.

Arrays are mutated where said. Times are microseconds since the start, int64. One arrival or departure costs
O(log leases).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.heap import pop, push
from solvers.kernel import Arrays, kernel

Int = NDArray[np.int64]

PENDING, SERVED, PRICED_OUT, STOCK_OUT = range(4)
"""What became of an arrival. A gang that was stopped counts as served until then."""


@kernel
def run_epochs(
    arrivals: Arrays, edge: Int, supply_gpus: Int, epoch_us: int, price: int, epochs: Arrays, state: Arrays
) -> None:
    """Run the epochs from `epochs[0]` to before `epochs[1]` at one price.

    `arrivals`: (arrival_us, duration_us, gpus, value), each (n,), by time; value in the unit of `price`.
    `edge` (all epochs + 1,): index of the first arrival of each epoch. `supply_gpus` (all epochs,).
    `state`, mutated: (outcome (n,) int8, until_us (n,): when a served gang ends, heap_us (n,), heap_gang (n,),
    used_gpus (all epochs,): in use at the end of each, counts (2,): heap size, GPUs in use).
    """
    _, until_us, heap_us, heap_gang, used_gpus, counts = state
    for epoch in range(epochs[0], epochs[1]):
        _stop(arrivals[2], state, edge[epoch], epoch * epoch_us, supply_gpus[epoch])
        for gang in range(edge[epoch], edge[epoch + 1]):
            _depart(arrivals[2], until_us, heap_us, heap_gang, counts, arrivals[0][gang])
            _arrive(arrivals, state, gang, price, supply_gpus[epoch])
        _depart(arrivals[2], until_us, heap_us, heap_gang, counts, (epoch + 1) * epoch_us)
        used_gpus[epoch] = counts[1]


@kernel
def _arrive(arrivals: Arrays, state: Arrays, gang: int, price: int, supply_gpus: int) -> None:
    arrival_us, duration_us, gpus, value = arrivals
    outcome, until_us, heap_us, heap_gang, _, counts = state
    if value[gang] < price:
        outcome[gang] = PRICED_OUT
    elif counts[1] + gpus[gang] > supply_gpus:
        outcome[gang] = STOCK_OUT
    else:
        outcome[gang] = SERVED
        until_us[gang] = arrival_us[gang] + duration_us[gang]
        counts[0] = push(heap_us, heap_gang, counts[0], until_us[gang], gang)
        counts[1] += gpus[gang]


@kernel
def _depart(gpus: Int, until_us: Int, heap_us: Int, heap_gang: Int, counts: Int, now_us: int) -> None:
    while counts[0] > 0 and heap_us[0] <= now_us:
        planned_us = heap_us[0]
        gang, counts[0] = pop(heap_us, heap_gang, counts[0])
        # A gang that was stopped stands in the heap until its planned end; its GPUs are given back already.
        if until_us[gang] == planned_us:
            counts[1] -= gpus[gang]


@kernel
def _stop(gpus: Int, state: Arrays, arrived: int, now_us: int, supply_gpus: int) -> None:
    outcome, until_us, _, _, _, counts = state
    gang = arrived - 1
    while counts[1] > supply_gpus:
        if outcome[gang] == SERVED and until_us[gang] > now_us:
            until_us[gang] = now_us
            counts[1] -= gpus[gang]
        gang -= 1
