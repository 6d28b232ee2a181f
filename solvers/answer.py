"""From slots to the answer: nodes, what each costs, and the sums per market.

One pass while the rows are still in the cache: the same in NumPy costs a dozen scattered reads of each node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.pools import MARKET, POSTED

Int = NDArray[np.int64]


@kernel
def describe(
    supply: Arrays, node: Int, slots: Int, take: Int, g: int, line_gpus: Int, line_rates: Int
) -> tuple[Int, Int, Int, Int, Int, Int]:
    """(nodes, GPUs, prices, lines, GPUs per line, rate per line), in the order of `slots` and by line.

    Line 2m holds the GPUs of market m at its posted price, line 2m + 1 those whose ask is above it. `line_gpus`,
    `line_rates` (2 · markets,): working space, zeros on entry and exit.
    """
    table, ask, pool_of = supply[0], supply[3], supply[11]
    nodes = np.empty(slots.size, dtype=np.int64)
    gpus = np.empty(slots.size, dtype=np.int64)
    prices = np.empty(slots.size, dtype=np.int64)
    touched, lines = np.empty(slots.size, dtype=np.int64), 0
    for place in range(slots.size):
        slot = slots[place]
        row = table[pool_of[slot]]
        above = ask[slot] > row[POSTED]
        nodes[place] = node[slot]
        gpus[place] = take[place] * g
        prices[place] = ask[slot] if above else row[POSTED]
        line = 2 * row[MARKET] + above
        if line_gpus[line] == 0:
            touched[lines] = line
            lines += 1
        line_gpus[line] += gpus[place]
        line_rates[line] += gpus[place] * prices[place]
    used = np.sort(touched[:lines])
    used_gpus, used_rates = line_gpus[used], line_rates[used]
    for line in used:
        line_gpus[line], line_rates[line] = 0, 0
    return nodes, gpus, prices, used, used_gpus, used_rates
