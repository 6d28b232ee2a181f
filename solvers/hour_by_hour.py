"""Sums of prices hour by hour, for the audit of prices alone: whoever decides prices adds them up otherwise
(`solvers.forward`), and neither knows the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]


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
