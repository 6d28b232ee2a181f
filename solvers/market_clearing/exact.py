"""The least and the greatest minimiser of the dual of a market of divisible bids, exactly.

    D(p) = Σ_b amount_b · max(0, value_b − min over b's markets of p_m) + Σ_s amount_s · max(0, p_m(s) − ask_s)

D is L♮-convex: its minimisers form a lattice whose least and greatest elements have every price at 0, at a value
or at an ask (Murota, Discrete Convex Analysis, 2003). `solvers.planning.clearing.split` decides, for an interval
between two neighbouring breakpoints, which prices of the least minimiser lie above it, by a minimum cut. That
kernel halves intervals of a logarithmic scale, and only ever compares. So it is given the rank of each breakpoint
on such a scale (an integer) instead of its price: as many halvings as the number of ranks has bits, and the rank,
hence the price, is exact. The greatest minimiser is the least one of the market with both sides exchanged and
prices negated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.planning.clearing import split

Int = NDArray[np.int64]
Int32 = NDArray[np.int32]

UNBOUNDED = -1
"""Greatest minimiser of a market whose price no supply bounds from above."""

LOG_RANGE = 24.0
"""Length of the scale. 2^L cells of 24/2^L each, from 2^L/6 up, stay below 2^63 for every L <= 27, and each holds
at least four integers: room for one in its middle.
"""


def least_prices(
    first: Int, markets: Int, bid_set: Int, value: Int, bid_amount: Int, supply_market: Int, ask: Int,
    supply_amount: Int, market_count: int,
) -> Int:  # fmt: skip
    """Price of each market (markets,) of the least minimiser of D over p >= 0.

    Set s may use `markets[first[s]:first[s + 1]]`; bids: set, value, amount; supply: market, ask, amount. Prices
    and amounts are non-negative integers; an amount of 0 is as if absent.
    """
    points = _breakpoints(value, ask)
    rank = _least_ranks(
        first, markets, bid_set, np.searchsorted(points, value), bid_amount,
        supply_market, np.searchsorted(points, ask), supply_amount, market_count, points.size,
    )  # fmt: skip
    return points[rank]


def greatest_prices(
    first: Int, markets: Int, bid_set: Int, value: Int, bid_amount: Int, supply_market: Int, ask: Int,
    supply_amount: Int, market_count: int,
) -> Int:  # fmt: skip
    """Like `least_prices`, of the greatest minimiser; UNBOUNDED where it has no upper end.

    With the sides exchanged, sets are the rows and markets the shapes: a market goes up to the highest of its own
    asks (negated) or to the least of its sets, whichever is less.
    """
    points = _breakpoints(value, ask)
    set_count, last = first.size - 1, points.size
    of_set = np.repeat(np.arange(set_count), np.diff(first))
    turned = np.argsort(markets, kind="stable")
    turned_first = np.concatenate(([0], np.cumsum(np.bincount(markets, minlength=market_count))))
    ask_rank = last - np.searchsorted(points, ask)
    set_rank = _least_ranks(
        turned_first, of_set[turned], supply_market, ask_rank, supply_amount,
        bid_set, last - np.searchsorted(points, value), bid_amount, set_count, last + 1,
    )  # fmt: skip
    rank = np.zeros(market_count, dtype=np.int64)
    np.maximum.at(rank, supply_market, np.where(supply_amount > 0, ask_rank, 0))
    np.minimum.at(rank, markets, set_rank[of_set])
    return np.append(points, UNBOUNDED)[last - rank]


def _breakpoints(value: Int, ask: Int) -> Int:
    """Distinct prices where the slope of D can change, ascending, from 0."""
    return np.unique(np.concatenate((np.zeros(1, dtype=np.int64), value, ask)))


def _least_ranks(
    first: Int, rows: Int, buyer_shape: Int, value_rank: Int, buyer_amount: Int, seller_row: Int, ask_rank: Int,
    seller_amount: Int, row_count: int, ranks: int,
) -> Int:  # fmt: skip
    """Rank of each row's price, (rows,), in the least minimiser."""
    levels = max(int(ranks - 1).bit_length(), 1)
    low, width = np.log((1 << levels) / 6), LOG_RANGE / (1 << levels)
    order = np.lexsort((ask_rank, seller_row))
    start = np.searchsorted(seller_row[order], np.arange(row_count + 1))
    supply_before = np.concatenate(([0], np.cumsum(seller_amount[order])))
    value, ask = _scaled(value_rank, low, width), _scaled(ask_rank[order], low, width)
    shape, amount = np.ascontiguousarray(buyer_shape), np.ascontiguousarray(buyer_amount)
    begin, end, active = first[:-1].copy(), first[1:].copy(), rows.astype(np.int32)
    small_first = np.argsort(np.diff(first), kind="stable")
    shape_key, row_key = np.zeros(first.size - 1, dtype=np.int64), np.zeros(row_count, dtype=np.int64)
    for level in range(levels):
        step = LOG_RANGE / (1 << (level + 1))
        split(
            begin, end, active, small_first, shape_key, row_key, low, step,
            shape, amount, value, start, ask, supply_before,
        )  # fmt: skip
    return row_key


def _scaled(rank: Int, low: float, width: float) -> Int:
    """An integer in the middle of the rank's cell of the scale, of which the lowest holds four."""
    scaled: Int = np.rint(np.exp(low + (rank + 0.5) * width)).astype(np.int64)
    return scaled
