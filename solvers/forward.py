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
def turn_of(rate: Int, ask: int) -> int:
    """Hours of a market before its curve crosses an ask: at the curve if it falls, at the ask if it rises."""
    low, high = 0, rate.size
    falling = rate[0] >= rate[high - 1]
    while low < high:
        middle = (low + high) // 2
        if (rate[middle] >= ask) == falling:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def whole_hours(rate: Int, running: Int, ask: int, turn: int, whole: int) -> int:
    """Cost of one GPU over the first `whole` hours, micro-USD; `turn` is `turn_of` the market and the ask."""
    hours = rate.size
    last = rate[hours - 1]
    turn = whole if turn == hours else min(turn, whole)
    before = running[min(turn, hours)] + max(0, turn - hours) * last
    if rate[0] >= last:
        return int(before + ask * (whole - turn))
    return int(ask * turn + running[min(whole, hours)] + max(0, whole - hours) * last - before)


@kernel
def cost_after(rate: Int, running: Int, ask: int, turn: int, seconds: int, units: int, most: int) -> int:
    """`cost`, with `turn_of` the market and the ask known."""
    whole, part = seconds // HOUR_S, seconds % HOUR_S
    total = whole_hours(rate, running, ask, turn, whole)
    rest = max(ask, rate[min(whole, rate.size - 1)])
    if float(units) * (float(total) + float(rest)) >= float(most):
        return most
    return int(total * units + rest * (part * units // HOUR_S))


@kernel
def cost(rate: Int, running: Int, ask: int, seconds: int, units: int, most: int) -> int:
    """Cost of one GPU of a market, `units` per micro-dollar, over the first `seconds`; at most `most`.

    `rate`, `running`: the market's row of `Curves`. `units`·`seconds` must be a multiple of an hour.
    """
    return int(cost_after(rate, running, ask, turn_of(rate, ask), seconds, units, most))


@kernel
def _least(rate: Int) -> int:
    """The least price of a curve: it rises or falls."""
    return int(min(rate[0], rate[rate.size - 1]))


@kernel
def _curve_costs(rate: Int, running: Int, edges: Int, units: int, out: Int) -> None:
    """Cost of a GPU without an ask up to each edge but the first, into `out`."""
    turn = turn_of(rate, 0)
    for band in range(edges.size - 1):
        out[band] = cost_after(rate, running, 0, turn, edges[band + 1], units, LARGEST)


@kernel
def band_costs(
    rate: Int, running: Int, own: Int, other: Int, group: Int, groups: int, ask: Int, gpus: Int, edges: Int,
    units: int,
) -> tuple[Int, Int]:  # fmt: skip
    """What nodes cost in each band of hours, by what sets the price: (costs, GPUs).

    `own`, `other`, `group`, `ask`, `gpus` (nodes,): the rows of a node's market and of the cheapest one of the
    same model and tier (both the same in a group), and below `groups` its market's number in the answer. `edges`
    (bands + 1,): seconds, the first 0. Costs have the shape (groups, bands, 3, 2): set by the curve, by the ask,
    by both in turn; base price and what the place adds. GPUs: the first three axes.
    """
    bands = edges.size - 1
    costs = np.zeros((groups, bands, 3, 2), dtype=np.int64)
    counts = np.zeros((groups, bands, 3), dtype=np.int64)
    at_edge = np.full((rate.shape[0], bands), -1, dtype=np.int64)
    following = 0
    while following < group.size:
        node, count = following, gpus[following]
        row, elsewhere, line = own[node], other[node], group[node]
        for curve in (row, elsewhere):
            if at_edge[curve, 0] < 0:
                _curve_costs(rate[curve], running[curve], edges, units, at_edge[curve])
        own_least, other_least = _least(rate[row]), _least(rate[elsewhere])
        own_low, other_low = ask[node] <= own_least, ask[node] <= other_least
        own_turn = 0 if own_low else turn_of(rate[row], ask[node])
        other_turn = 0 if other_low or elsewhere == row else turn_of(rate[elsewhere], ask[node])
        following += 1
        if own_low and other_low:  # most nodes, and neighbours are of one market: all of them cost the same
            low = min(own_least, other_least)
            while following < group.size and group[following] == line and ask[following] <= low:
                count += gpus[following]
                following += 1
        at_ask, at_curve, at_both, at_other = 0, 0, 0, 0
        for band in range(bands):
            end = edges[band + 1]
            ask_cost = ask[node] * end * units // HOUR_S
            curve_cost = both_cost = at_edge[row, band]
            if not own_low:
                both_cost = cost_after(rate[row], running[row], ask[node], own_turn, end, units, LARGEST)
            other_cost = both_cost
            if elsewhere != row and other_low:
                other_cost = at_edge[elsewhere, band]
            elif elsewhere != row:
                other_cost = cost_after(
                    rate[elsewhere], running[elsewhere], ask[node], other_turn, end, units, LARGEST
                )
            charged = both_cost - at_both
            base = min(charged, other_cost - at_other)
            kind = 2
            if charged == curve_cost - at_curve:
                kind = 0
            elif charged == ask_cost - at_ask:
                kind = 1
            costs[line, band, kind, 0] += count * base
            costs[line, band, kind, 1] += count * (charged - base)
            counts[line, band, kind] += count
            at_ask, at_curve, at_both, at_other = ask_cost, curve_cost, both_cost, other_cost
    return costs, counts


@kernel
def line_parts(
    rate: Int, running: Int, own: Int, other: Int, market: Int, markets: int, ask: Int, gpus: Int, edges: Int,
    units: int, counts: Int,
) -> tuple[Int, Int]:  # fmt: skip
    """The lines of the totals of some placements, one after another, of `counts` (placements,) nodes each.

    (lines, 8): market, band, 0 to 2 as in `band_costs`, 1 for what the place adds, GPUs, amount in micro-USD, the
    amount as a rate per hour, half up, and the cost, in `units`; of each placement by market, band and what sets
    the price, each base price before what the place adds. And how many lines each has, (placements,).

    Arguments as in `band_costs`; `market` (nodes,) is below `markets`. An amount is the difference of the running
    sum, rounded half up; costs of a placement must sum to less than `LARGEST`.
    """
    group, named, ends = groups_of(market, markets, counts)
    costs, of_gpus = band_costs(rate, running, own, other, group, named.size, ask, gpus, edges, units)
    lines, each = np.empty((2 * of_gpus.size, 8), dtype=np.int64), np.empty_like(counts)
    line, begin = 0, 0
    for place in range(counts.size):
        first, cost_so_far, charged = line, 0, 0
        for own_group in range(begin, ends[place]):
            for band in range(edges.size - 1):
                seconds = edges[band + 1] - edges[band]
                for kind in range(3):
                    count = of_gpus[own_group, band, kind]
                    for adds in range(2):
                        part = costs[own_group, band, kind, adds]
                        if count == 0 or (adds == 1 and part == 0):
                            continue
                        cost_so_far += part
                        total = (2 * cost_so_far + units) // (2 * units)
                        amount = total - charged
                        lines[line, 0], lines[line, 1] = named[own_group], band
                        lines[line, 2], lines[line, 3] = kind, adds
                        lines[line, 4], lines[line, 5] = count, amount
                        rest = 2 * HOUR_S * (amount % seconds) + seconds
                        lines[line, 6] = amount // seconds * HOUR_S + rest // (2 * seconds)
                        lines[line, 7] = part
                        charged = total
                        line += 1
        begin, each[place] = ends[place], line - first
    return lines[:line], each


@kernel
def groups_of(market: Int, markets: int, counts: Int) -> tuple[Int, Int, Int]:
    """The markets of some placements of `counts` nodes each, in each in ascending order: (the group of each node,
    the market of each group, where the groups of each placement end)."""
    group, named, ends = np.empty_like(market), np.empty_like(market), np.empty_like(counts)
    latest = np.full(markets, -1, dtype=np.int64)
    begin, groups = 0, 0
    for place in range(counts.size):
        end, first = begin + counts[place], groups
        for node in range(begin, end):
            if latest[market[node]] < first:
                latest[market[node]], named[groups] = groups, market[node]
                groups += 1
        named[first:groups] = np.sort(named[first:groups])
        for own in range(first, groups):
            latest[named[own]] = own
        for node in range(begin, end):
            group[node] = latest[market[node]]
        begin, ends[place] = end, groups
    return group, named[:groups], ends


@kernel
def average_prices(costs: Int, units: int, duration_s: int) -> Int:
    """Costs over a duration, `units` per micro-dollar, as prices per hour, half up, (nodes,).

    Exact: a cost times an hour can leave 64 bits, so what a second costs is split off first.
    """
    prices = np.empty_like(costs)
    divisor = units * duration_s
    for node in range(costs.size):
        if node and costs[node] == costs[node - 1]:  # as most do
            prices[node] = prices[node - 1]
            continue
        whole, rest = costs[node] // divisor, costs[node] % divisor
        prices[node] = whole * HOUR_S + (2 * HOUR_S * rest + divisor) // (2 * divisor)
    return prices


@kernel
def averages_of(costs: Int, gpus: Int, units: int, duration_s: int) -> tuple[Int, int, int, int]:
    """(`average_prices` of costs, (nodes,); their sum over the GPUs; the number of GPUs; the largest cost)."""
    prices, rate, count = average_prices(costs, units, duration_s), 0, 0
    for node in range(costs.size):
        rate += gpus[node] * prices[node]
        count += gpus[node]
    return prices, rate, count, costs.max()


@kernel
def span_costs(rate: Int, running: Int, row: Int, asks: Int, seconds: Int) -> tuple[Int, Int]:
    """Cost of one GPU at max(ask, curve) between ascending seconds, each (rows, seconds - 1): whole micro-USD,
    and what is beyond them in micro-USD · seconds / hour, 0 to 3,599. Exact for all that limits allow.

    `row`, `asks` (rows,): the row of the curves, the ask.
    """
    whole = np.empty((row.size, seconds.size - 1), dtype=np.int64)
    part = np.empty((row.size, seconds.size - 1), dtype=np.int64)
    for place in range(row.size):
        curve, sums, ask = rate[row[place]], running[row[place]], asks[place]
        turn = turn_of(curve, ask)
        before, before_part = 0, 0
        for edge in range(seconds.size):
            hours = seconds[edge] // HOUR_S
            rest = max(ask, curve[min(hours, curve.size - 1)]) * (seconds[edge] % HOUR_S)
            now = whole_hours(curve, sums, ask, turn, hours) + rest // HOUR_S
            now_part = rest % HOUR_S
            if edge:
                borrow = 1 if now_part < before_part else 0
                whole[place, edge - 1] = now - before - borrow
                part[place, edge - 1] = now_part - before_part + borrow * HOUR_S
            before, before_part = now, now_part
    return whole, part


LOW_BITS = 31


@kernel
def least_sums(whole: Int, part: Int, other_whole: Int, other_part: Int, gpus: Int) -> tuple[int, int, int]:
    """Σ GPUs · the lower of two costs as `span_costs` gives them, over rows and spans: (high, low, part), the sum
    being (high · 2^31 + low) micro-USD and `part` micro-USD · seconds / hour: no sum leaves 64 bits."""
    high, low, parts = 0, 0, 0
    for row in range(gpus.size):
        for span in range(whole.shape[1]):
            most, rest = whole[row, span], part[row, span]
            if other_whole[row, span] < most or (other_whole[row, span] == most and other_part[row, span] < rest):
                most, rest = other_whole[row, span], other_part[row, span]
            high += gpus[row] * (most >> LOW_BITS)
            low += gpus[row] * (most & ((1 << LOW_BITS) - 1))
            parts += gpus[row] * rest
    return high, low, parts
