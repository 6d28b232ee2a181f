"""What the audit looks at node by node, in one pass. For the audit alone: who places and prices goes about it
otherwise, and neither knows the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]


class Gang(NamedTuple):
    """What holds of the nodes of a placement together."""

    in_order: bool
    gpus: int
    least_gpus: int
    is_free: bool
    one_state: bool
    one_model: bool


@kernel
def gang_of(rank: Int, state: Int, unused: Int, model: Int, gpus: Int) -> Gang:
    """Of at least one node, each argument (nodes,): ranks ascend, GPUs in all and at the least, all unused."""
    assert rank.size == state.size == unused.size == model.size == gpus.size
    in_order, total, least, is_free, one_state, one_model = True, 0, gpus[0], True, True, True
    for node in range(gpus.size):
        in_order &= node == 0 or rank[node] > rank[node - 1]
        total += gpus[node]
        least = min(least, gpus[node])
        is_free &= gpus[node] <= unused[node]
        one_state &= state[node] == state[0]
        one_model &= model[node] == model[0]
    return Gang(in_order, total, least, is_free, one_state, one_model)


@kernel
def paid_by_hour(prices: Int, market: Int, asks: Int, hours: int, last_s: int) -> Int:
    """Σ seconds · max(ask, price of the hour) of each node, (nodes,), over some hours, the last one of `last_s`.

    `prices` (markets, hours or more); the largest, or ask, times the duration must be below 2^63.
    """
    sums = np.empty_like(asks)
    for node in range(asks.size):
        row, ask, paid = prices[market[node]], asks[node], 0
        for hour in range(hours - 1):
            paid += max(row[hour], ask)
        sums[node] = 3_600 * paid + last_s * max(row[hours - 1], ask)
    return sums
