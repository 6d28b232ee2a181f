"""Forward prices as kernels take them: what a node costs over a duration, exactly (DESIGN, sections 3.3 and 3.4).

In hour h after its start a GPU of market m costs max(ask, f_m(h)), f_m(h) = F + (p − F)·2^(−h / half-life),
rounded half up to the micro-dollar; f rises or falls, never both. A cost is that, summed over the hours, the last
one by its fraction, in *units* of micro-USD · gcd(duration, hour) / hour: an integer without any rounding, so that
sums of costs are exact and a total is rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]
HOUR_S = 3_600
LARGEST = 2**61
"""Costs are cut off where a gang's sum could leave 64 bits."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Hourly prices of some markets, micro-USD per GPU-hour.

    `rate` (markets, hours): f(h); after the last column it stays. `running` (markets, hours + 1): its sums.
    """

    rate: Int
    running: Int

    @classmethod
    def of(cls, posted: Int, long_run: Int, half_life_h: float, duration_s: int) -> Curves:
        """The curves over a duration, (markets,) each; `half_life_h` > 0."""
        distance = posted - long_run
        furthest = int(np.abs(distance).max(initial=0))
        settled_h = math.ceil(half_life_h * math.log2(2 * furthest)) + 2 if furthest else 1
        hours = min(-(-duration_s // HOUR_S) + 1, settled_h)
        decay = np.exp2(-np.arange(hours) / half_life_h)
        rate = np.floor(long_run[:, None] + distance[:, None] * decay + 0.5).astype(np.int64)
        return cls(rate, np.concatenate((np.zeros((posted.size, 1), dtype=np.int64), rate.cumsum(axis=1)), axis=1))


def units_per_hour(duration_s: int) -> int:
    """Units of cost in a micro-dollar: an hour over the largest step that divides both."""
    return HOUR_S // math.gcd(duration_s, HOUR_S)


@kernel
def cost(rate: Int, running: Int, ask: int, seconds: int, units: int, most: int) -> int:
    """Cost of one GPU of a market, `units` per micro-dollar, over the first `seconds`; at most `most`.

    `rate`, `running`: the market's row of `Curves`. `units`·`seconds` must be a multiple of an hour.
    """
    whole, part = seconds // HOUR_S, seconds % HOUR_S
    hours = rate.size
    first, last = rate[0], rate[hours - 1]
    low, high = 0, min(whole, hours)
    falling = first >= last
    while (
        low < high
    ):  # the hours before `low` are those of one kind: at the curve if it falls, at the ask if it rises
        middle = (low + high) // 2
        if (rate[middle] >= ask) == falling:
            low = middle + 1
        else:
            high = middle
    turn = low
    if low == hours and whole > hours:
        turn = whole
    before = running[min(turn, hours)] + max(0, turn - hours) * last
    if falling:
        total = before + ask * (whole - turn)
    else:
        total = ask * turn + running[min(whole, hours)] + max(0, whole - hours) * last - before
    rest = max(ask, rate[min(whole, hours - 1)])
    if float(units) * (float(total) + float(rest)) >= float(most):
        return most
    return int(total * units + rest * (part * units // HOUR_S))


@kernel
def band_costs(
    rate: Int, running: Int, market: Int, cheapest: Int, ask: Int, gpus: Int, edges: Int, units: int
) -> tuple[Int, Int]:
    """What nodes cost in each band of hours, by what sets the price: (costs, GPUs).

    `market`, `ask`, `gpus` (nodes,): `market` and `cheapest` (markets,) are rows of the curves, the latter the
    cheapest market of the same model and tier. `edges` (bands + 1,): seconds, the first 0. Costs have the shape
    (markets, bands, 3, 2): set by the curve, by the ask, by both in turn; base price and what the place adds.
    GPUs: the first three axes.
    """
    costs = np.zeros((cheapest.size, edges.size - 1, 3, 2), dtype=np.int64)
    counts = np.zeros((cheapest.size, edges.size - 1, 3), dtype=np.int64)
    for node in range(market.size):
        own = market[node]
        other = cheapest[own]
        at_ask, at_curve, at_both, at_other = 0, 0, 0, 0
        for band in range(edges.size - 1):
            end = edges[band + 1]
            ask_cost = ask[node] * end * units // HOUR_S
            curve_cost = cost(rate[own], running[own], 0, end, units, LARGEST)
            both_cost = cost(rate[own], running[own], ask[node], end, units, LARGEST)
            other_cost = cost(rate[other], running[other], ask[node], end, units, LARGEST)
            charged = both_cost - at_both
            base = min(charged, other_cost - at_other)
            kind = 2
            if charged == curve_cost - at_curve:
                kind = 0
            elif charged == ask_cost - at_ask:
                kind = 1
            costs[own, band, kind, 0] += gpus[node] * base
            costs[own, band, kind, 1] += gpus[node] * (charged - base)
            counts[own, band, kind] += gpus[node]
            at_ask, at_curve, at_both, at_other = ask_cost, curve_cost, both_cost, other_cost
    return costs, counts


def running_costs(rate: Int, running: Int, asks: Int, seconds: int) -> NDArray[np.object_]:
    """Cost of one GPU of a market at each of some asks over the first `seconds`, exact Python integers in
    micro-USD · seconds / hour, (asks,).

    `rate`, `running`: the market's row of `Curves`. As `cost`, for any number of seconds and without a limit.
    """
    whole, part = seconds // HOUR_S, seconds % HOUR_S
    hours, last = rate.size, int(rate[-1])

    def up_to(hour: Int | int) -> Int:
        stays: Int = running[np.minimum(hour, hours)] + np.maximum(0, np.asarray(hour) - hours) * last
        return stays

    falling = rate[0] >= last
    before = hours - np.searchsorted(rate[::-1], asks) if falling else np.searchsorted(rate, asks)
    turn = np.minimum(np.where(before == hours, whole, before), whole)
    at_curve = up_to(turn)
    at_ask = asks * turn if not falling else asks * (whole - turn)
    total = at_curve + at_ask if falling else at_ask + up_to(whole) - at_curve
    rest = np.maximum(asks, rate[min(whole, hours - 1)]) * part
    exact: NDArray[np.object_] = total.astype(object) * HOUR_S + rest.astype(object)
    return exact
