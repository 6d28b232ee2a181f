"""Who has how much of a placement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]


@kernel
def shares_of(owner: Int, owners: int, nodes: Int, gpus: Int, prices: Int) -> tuple[Int, Int]:
    """(owners in ascending order, what each has: Σ GPUs · price, or Σ GPUs if all prices are 0, without a common
    divisor); nobody who has 0. `owner` of all nodes, below `owners`; the others of some nodes."""
    assert nodes.size == gpus.size == prices.size
    costs = np.zeros(owners, dtype=np.int64)
    counts = prices.any()
    for place in range(nodes.size):
        costs[owner[nodes[place]]] += gpus[place] * (prices[place] if counts else 1)
    own = np.flatnonzero(costs)
    shares, divisor = costs[own], 0
    for share in shares:
        while share:
            divisor, share = share, divisor % share
    return own, shares // max(divisor, 1)
