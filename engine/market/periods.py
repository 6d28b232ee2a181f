"""What a lease pays over its hours, kept so that any part of it can be told exactly.

A lease is a chain of *periods*: as it was sold, then what was added by extensions or changed by new prices. A
period has rows (node, GPUs) and how the price of each runs: constant, or max(ask, forward curve) from some second
of the curve on. Costs are exact, in micro-USD · seconds / hour, without any rounding;
`engine.domain.money` rounds their sums once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.money import share_of_gpu
from engine.market.inventory import Inventory
from engine.market.lease_terms import Profile, Terms
from solvers.forward import HOUR_S, LOW_BITS, Curves, least_sums, span_costs

Int = NDArray[np.int64]
Exact = NDArray[np.object_]
NO_CURVE = Curves(np.zeros((1, 1), dtype=np.int64), np.zeros((1, 2), dtype=np.int64))
"""Below every price, so that a node costs its price at any time."""
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
    return band_edges(first, last)


def band_edges(from_s: int, to_s: int) -> list[int]:
    """Where the bands of hours between two seconds of a curve begin, and where the last one ends."""
    return [from_s, *(edge for edge in BAND_EDGES_S if from_s < edge < to_s), to_s]


class Costs(NamedTuple):
    """What one GPU of each row costs between some edges, each (rows, edges - 1): whole micro-USD, and what is
    beyond them in micro-USD · seconds / hour."""

    whole: Int
    part: Int

    @property
    def exact(self) -> Exact:
        """The same as Python integers in micro-USD · seconds / hour."""
        exact: Exact = self.whole.astype(object) * HOUR_S + self.part.astype(object)
        return exact


def paid_costs(period: Period, edges: Sequence[int]) -> Costs:
    """What one GPU of each row costs between the edges as it was sold."""
    profile = period.profile
    if profile is None:
        prices = period.prices
        return curve_costs(NO_CURVE, np.zeros_like(prices), prices, edges)
    seconds = [edge - period.from_s + period.curve_from_s for edge in edges]
    asks = np.frombuffer(profile.asks_micro_usd_per_gpu_hour, dtype="<i8").astype(np.int64)
    row = np.frombuffer(profile.curve_of_node, dtype="<i4").astype(np.int64)
    posted, long_run = np.array(profile.curves, dtype=np.int64).T
    curves = Curves.of(posted, long_run, profile.half_life_h, max(seconds[-1], 1))
    return curve_costs(curves, row, asks, seconds, period.gpu_milli)


def current_costs(inventory: Inventory, period: Period, edges: Sequence[int], now_s: int) -> Costs:
    """What one GPU of each row would cost if it were sold now, `now_s` after the lease's start."""
    nodes, seconds = period.node_numbers, [edge - now_s for edge in edges]
    curves, row = inventory.rows_of(inventory.market[nodes], max(seconds[-1], 1))
    return curve_costs(
        curves, row, np.ascontiguousarray(inventory.nodes.ask_micro_usd[nodes]), seconds, period.gpu_milli
    )


def curve_costs(
    curves: Curves, row: Int, asks: Int, seconds: Sequence[int], gpu_milli: int | None = None
) -> Costs:
    """Cost of one GPU, or of a part of it, at max(ask, curve) between ascending seconds; `row`, `asks` (rows,)."""
    if gpu_milli is not None:
        return _part_costs(curve_costs(curves, row, asks, [0, *seconds]), gpu_milli)
    return Costs(*span_costs(curves.rate, curves.running, row, asks, np.array(seconds, dtype=np.int64)))


def _part_costs(whole: Costs, gpu_milli: int) -> Costs:
    """The share of every running sum of the whole GPU's costs, rounded up, and its differences but the first."""
    running = [[share_of_gpu(cost, gpu_milli) for cost in accumulate(row)] for row in whole.exact.tolist()]
    between = [[divmod(after - before, HOUR_S) for before, after in pairwise(row)] for row in running]
    pairs = np.array(between, dtype=np.int64).reshape(len(between), -1, 2)
    return Costs(np.ascontiguousarray(pairs[:, :, 0]), np.ascontiguousarray(pairs[:, :, 1]))


def least_cost(costs: Costs, others: Costs, gpus: Int) -> int:
    """Σ GPUs · the lower of the two, over all rows and edges, micro-USD · seconds / hour."""
    high, low, part = least_sums(*costs, *others, gpus)
    return ((int(high) << LOW_BITS) + int(low)) * HOUR_S + int(part)


def cut(periods: Sequence[Period], at_s: int) -> tuple[Period, ...]:
    """What was agreed for the time before a second."""
    return tuple(replace(period, to_s=min(period.to_s, at_s)) for period in periods if period.from_s < at_s)
