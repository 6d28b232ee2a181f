"""The dual D of one market, window by window along a price path, and over all hours at once.

Both are bounds by weak duality: what buyers gain at a price plus what suppliers gain is at least the welfare of
any allocation of the same demand and supply.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@kernel
def dual_path(bids: Arrays, first: Int, last: Int, supply: Float, ask: int, price: Int) -> Float:
    """D(price[k]) of window k: Σ max(0, value − price[k])·gpu_seconds over bids first[k] to before last[k], plus
    max(0, price[k] − ask)·supply[k].

    `bids`: (value, gpu_seconds), each (bids,); the others (windows,), supply in GPU-seconds. O(Σ bids of windows).
    """
    value, gpu_seconds = bids
    dual = np.empty(price.size)
    for window in range(price.size):
        total = max(0, price[window] - ask) * supply[window]
        for bid in range(first[window], last[window]):
            if value[bid] > price[window]:
                total += (value[bid] - price[window]) * gpu_seconds[bid]
        dual[window] = total
    return dual


@kernel
def least_hourly_dual(gangs: Arrays, supply: Float, steps: int, scale: float) -> float:
    """The least D(π) found over prices π of whole hours: no policy that serves gangs on arrival can do better.

    D(π) = Σ_gangs max(0, ∫ over its run of gpus·(value − π)) + Σ_hours π·supply. `gangs`: (start_h, end_h, gpus,
    value), each (n,) float64, every end at most supply.size; `supply` (hours,) GPUs > 0. Projected subgradient,
    `steps` steps of size scale/√k per hour and unit of relative excess demand: any π gives a valid bound, more
    steps a tighter one. O(steps·(n + hours)).
    """
    price, paid, usage = np.zeros(supply.size), np.zeros(supply.size + 1), np.zeros(supply.size + 1)
    least = np.inf
    for step in range(steps):
        for hour in range(supply.size):
            paid[hour + 1] = paid[hour] + price[hour]
        least = min(least, _demand_at(gangs, price, paid, usage) + np.sum(price * supply))
        used = 0.0
        for hour in range(supply.size):
            # `usage` holds differences: its running sum is the use of an hour, part hours by fraction.
            used += usage[hour]
            excess = used / supply[hour] - 1.0
            price[hour] = max(0.0, price[hour] + scale / np.sqrt(step + 1.0) * excess)
    return least


@kernel
def _demand_at(gangs: Arrays, price: Float, paid: Float, usage: Float) -> float:
    """Surplus of all gangs at hourly prices; `usage` (hours + 1,) becomes the differences of GPUs they want."""
    start_h, end_h, gpus, value = gangs
    usage[:] = 0.0
    surplus = 0.0
    for gang in range(start_h.size):
        cost = _until(price, paid, end_h[gang]) - _until(price, paid, start_h[gang])
        gain = gpus[gang] * (value[gang] * (end_h[gang] - start_h[gang]) - cost)
        if gain > 0.0:
            surplus += gain
            _edge(usage, start_h[gang], gpus[gang])
            _edge(usage, end_h[gang], -gpus[gang])
    return surplus


@kernel
def _until(price: Float, paid: Float, time_h: float) -> float:
    hour = min(int(time_h), price.size - 1)
    return float(paid[hour] + price[hour] * (time_h - hour))


@kernel
def _edge(usage: Float, time_h: float, gpus: float) -> None:
    """From `time_h` on, `gpus` more: the part of its hour that is left, all of the next."""
    hour = min(int(time_h), usage.size - 2)
    usage[hour] += gpus * (hour + 1.0 - time_h)
    usage[hour + 1] += gpus * (time_h - hour)
