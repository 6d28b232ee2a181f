"""What a lease pays over its hours, kept so that any part of it can be told exactly.

A lease is a chain of *periods*: as it was sold, then what was added by extensions or changed by new prices. A
period has rows (node, GPUs) and how the price of each runs: constant, or max(ask, forward curve) from some second
of the curve on. Costs are Python integers in micro-USD · seconds / hour, without any rounding;
`engine.domain.money` rounds their sums once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.domain.money import share_of_gpu
from engine.market.events import Profile, Terms
from engine.market.inventory import Inventory
from solvers.forward import HOUR_S, Curves, running_costs

Int = NDArray[np.int64]
Exact = NDArray[np.object_]
BAND_EDGES_S = tuple(hours * HOUR_S for hours in (1, 6, 24, 168))


@dataclass(frozen=True, slots=True)
class Period:
    """[from_s, to_s) seconds after the start of a lease. Columns as in `Terms`; rows may have no GPUs left.

    `curve_from_s`: the second of the profile's curves at which it begins.
    """

    from_s: int
    to_s: int
    nodes: bytes
    gpus: bytes
    prices_micro_usd_per_gpu_hour: bytes
    profile: Profile | None = None
    curve_from_s: int = 0
    gpu_milli: int | None = None
    """The part that is had of the one GPU; its price is that of the part, the profile that of the GPU."""

    @classmethod
    def of(cls, terms: Terms) -> Period:
        """The first period: as sold."""
        prices = terms.prices_micro_usd_per_gpu_hour
        part = terms.request.gpu_milli
        return cls(0, terms.duration_s, terms.nodes, terms.gpus, prices, terms.profile, gpu_milli=part)

    @property
    def node_numbers(self) -> Int:
        """Node numbers, (rows,)."""
        return np.frombuffer(self.nodes, dtype="<i4").astype(np.int64)

    @property
    def row_gpus(self) -> Int:
        """GPUs of each row, (rows,)."""
        return np.frombuffer(self.gpus, dtype="<i4").astype(np.int64)

    @property
    def prices(self) -> Int:
        """Average price of each row, micro-USD per GPU-hour, (rows,)."""
        return np.frombuffer(self.prices_micro_usd_per_gpu_hour, dtype="<i8").astype(np.int64)


def edges_of(period: Period, from_s: int, to_s: int) -> list[int]:
    """Borders of the hour bands of a lease inside a part of a period; empty if the part is."""
    first, last = max(from_s, period.from_s), min(to_s, period.to_s)
    if first >= last:
        return []
    return [first, *(edge for edge in BAND_EDGES_S if first < edge < last), last]


def paid_costs(period: Period, edges: Sequence[int]) -> Exact:
    """What one GPU of each row costs between the edges as it was sold, (rows, edges - 1)."""
    profile = period.profile
    if profile is None:
        return period.prices.astype(object)[:, None] * np.diff(np.array(edges, dtype=object))[None, :]
    seconds = [edge - period.from_s + period.curve_from_s for edge in edges]
    asks = np.frombuffer(profile.asks_micro_usd_per_gpu_hour, dtype="<i8").astype(np.int64)
    curve = np.frombuffer(profile.curve_of_node, dtype="<i4").astype(np.int64)
    posted, long_run = np.array(profile.curves, dtype=np.int64).T
    return curve_costs(posted, long_run, profile.half_life_h, curve, asks, seconds, period.gpu_milli)


def current_costs(inventory: Inventory, period: Period, edges: Sequence[int], now_s: int) -> Exact:
    """What one GPU of each row would cost if it were sold now, `now_s` after the lease's start, same shape."""
    nodes, seconds = period.node_numbers, [edge - now_s for edge in edges]
    markets, row = np.unique(inventory.market[nodes], return_inverse=True)
    posted, long_run = inventory.posted_of_market[markets], inventory.long_run[markets]
    asks = np.ascontiguousarray(inventory.nodes.ask_micro_usd[nodes])
    return curve_costs(posted, long_run, inventory.half_life_h, row, asks, seconds, period.gpu_milli)


def curve_costs(
    posted: Int,
    long_run: Int,
    half_life_h: float,
    curve_of_row: Int,
    asks: Int,
    seconds: Sequence[int],
    gpu_milli: int | None = None,
) -> Exact:
    """Cost of one GPU, or of a part of it, at max(ask, curve) between ascending seconds, (rows, seconds - 1)."""
    pairs, row = np.unique(np.stack((curve_of_row, asks)), axis=1, return_inverse=True)
    used = np.unique(pairs[0])
    curves = Curves.of(posted[used], long_run[used], half_life_h, max(seconds[-1], 1))
    costs = np.empty((pairs.shape[1], len(seconds)), dtype=object)
    for curve, rate, running in zip(used.tolist(), curves.rate, curves.running, strict=True):
        own = pairs[0] == curve
        for place, second in enumerate(seconds):
            costs[own, place] = running_costs(rate, running, pairs[1, own], second)
    if gpu_milli is not None:
        costs = np.array([[share_of_gpu(cost, gpu_milli) for cost in row] for row in costs], dtype=object)
    between: Exact = np.diff(costs, axis=1)[row.reshape(-1)]
    return between


def cut(periods: Sequence[Period], at_s: int) -> tuple[Period, ...]:
    """What was agreed for the time before a second."""
    return tuple(replace(period, to_s=min(period.to_s, at_s)) for period in periods if period.from_s < at_s)
