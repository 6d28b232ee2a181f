"""Placement at forward prices: exact costs, the cheapest gang, pools that stay true as GPUs come and go."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.market.charges import per_hour
from engine.market.periods import curve_costs, least_cost
from engine.oracle.forward import ForwardCurve
from solvers.distances import Distances
from solvers.forward import LARGEST, Curves, average_prices, band_costs, cost, line_parts, units_per_hour
from solvers.placement import Demand, Placement, Placer
from solvers.pools import NodeColumns, Pools
from solvers.priced_pools import PricedPools
from solvers.spare import Spare
from tests.solvers.laws import Asked
from tests.worlds import world_from_seed

PRICES = st.integers(1, 10**7)
DURATIONS = st.one_of(st.integers(1, 20_000), st.integers(1, 10**7), st.integers(1, 900).map(lambda h: h * 3_600))


def slow_cost(curve: ForwardCurve, ask: int, duration_s: int, units: int) -> int:
    """Second by second, in the units of the kernel: whole hours, then the part of the last one."""
    hours = -(-duration_s // 3_600)
    rates = [max(ask, rate) for rate in curve.rates(hours).tolist()]
    lengths = [min(3_600, duration_s - 3_600 * hour) for hour in range(hours)]
    exact = sum(rate * length for rate, length in zip(rates, lengths, strict=True)) * units
    assert exact % 3_600 == 0
    return exact // 3_600


@settings(max_examples=150, deadline=None)
@given(PRICES, PRICES, st.integers(0, 10**7), DURATIONS, st.sampled_from((1.0, 7.3, 48.0)))
def test_costs_are_the_forward_curves(posted: int, long_run: int, ask: int, duration_s: int, half: float) -> None:
    """Law: the kernel's cost is exactly the oracle's curve summed hour by hour, without rounding."""
    curves, units = (
        Curves.of(np.array([posted]), np.array([long_run]), half, duration_s),
        units_per_hour(duration_s),
    )
    found = cost(curves.rate[0], curves.running[0], ask, duration_s, units, LARGEST)
    curve = ForwardCurve(posted, long_run, half)
    assert found == slow_cost(curve, ask, duration_s, units)
    per_gpu = curve.amount_micro_usd(0, duration_s, ask)
    assert abs(found / units - per_gpu) <= 0.5 + 1e-9 * per_gpu


@settings(max_examples=100, deadline=None)
@given(PRICES, PRICES, st.lists(st.integers(0, 10**7), min_size=2, max_size=5), DURATIONS, st.integers(1, 5_000))
def test_costs_are_monotone(posted: int, long_run: int, asks: list[int], duration_s: int, more_s: int) -> None:
    """Law 7: a higher ask and more time never cost less, so merit order inside a market is cost order."""
    curves = Curves.of(np.array([posted]), np.array([long_run]), 48.0, duration_s + more_s)
    row = curves.rate[0], curves.running[0]
    units = 3_600
    costs = [cost(*row, ask, duration_s, units, LARGEST) for ask in sorted(asks)]
    assert costs == sorted(costs)
    assert all(
        cost(*row, ask, duration_s + more_s, units, LARGEST) >= cost(*row, ask, duration_s, units, LARGEST)
        for ask in asks
    )


def test_costs_are_cut_off_before_they_overflow() -> None:
    """Law 7: the dearest ask for the longest time stays inside 64 bits."""
    curves = Curves.of(np.array([10**11]), np.array([1]), 48.0, 315_360_000)
    assert cost(curves.rate[0], curves.running[0], 10**11, 315_359_999, 3_600, 10**15) == 10**15


Int = NDArray[np.int64]
PricedNodes = tuple[tuple[Int, Int, Int, Int], tuple[Int, Int, Int, int]]


@st.composite
def priced_nodes(draw: st.DrawFn) -> PricedNodes:
    """(prices and sums of curves, market of each node and one beside it), (asks, GPUs, edges, units an hour)."""
    prices = draw(st.lists(st.tuples(PRICES, PRICES), min_size=1, max_size=3))
    node = st.tuples(st.integers(0, 2), st.integers(0, 10**7), st.integers(1, 64))
    nodes, duration_s = draw(st.lists(node, min_size=1, max_size=8)), draw(st.integers(3_601, 10**6))
    posted, long_run = (np.array(column) for column in zip(*prices, strict=True))
    curves = Curves.of(posted, long_run, 48.0, duration_s)
    market, ask, gpus = (np.array(column) for column in zip(*nodes, strict=True))
    market %= posted.size
    edges = np.array([0, *(edge for edge in (3_600, 21_600, 86_400, 604_800) if edge < duration_s), duration_s])
    named = curves.rate, curves.running, market, np.zeros_like(market)
    return named, (ask, gpus, edges, units_per_hour(duration_s))


@settings(max_examples=100, deadline=None)
@given(priced_nodes())
def test_bands_sum_to_the_cost(nodes: PricedNodes) -> None:
    """Law: over bands, kinds and premiums costs sum to those of the nodes; every band has all GPUs."""
    named, elsewhere = nodes
    (rate, running, market, _), (ask, gpus, edges, units) = nodes
    costs, counts = band_costs(*named, market, rate.shape[0], *elsewhere)
    whole = sum(
        n * cost(rate[m], running[m], a, int(edges[-1]), units, LARGEST)
        for m, a, n in zip(market.tolist(), ask.tolist(), gpus.tolist(), strict=True)
    )
    assert costs.sum() == whole and (costs >= 0).all()
    assert (counts.sum(axis=(0, 2)) == gpus.sum()).all()


def bands_one_by_one(nodes: PricedNodes) -> tuple[Int, Int]:
    """The dumb twin of the bands: each node alone."""
    (rate, running, market, other), (ask, gpus, edges, units) = nodes
    each = [
        band_costs(rate, running, *(of[n : n + 1] for of in (market, other, market)), rate.shape[0],
                   ask[n : n + 1], gpus[n : n + 1], edges, units)
        for n in range(market.size)
    ]  # fmt: skip
    return sum(costs for costs, _ in each), sum(counts for _, counts in each)


@settings(max_examples=100, deadline=None)
@given(priced_nodes())
def test_bands_do_not_depend_on_neighbours(nodes: PricedNodes) -> None:
    """Law: nodes that stand side by side and cost the same are summed at once, and it changes nothing."""
    named, elsewhere = nodes
    found = band_costs(*named, named[2], named[0].shape[0], *elsewhere)
    for whole, alone in zip(found, bands_one_by_one(nodes), strict=True):
        assert (whole == alone).all()


def test_a_neighbour_that_costs_more_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: an ask above a falling curve's end is taken for one that is never paid."""
    curves = Curves.of(np.array([1_000]), np.array([10]), 48.0, 86_400)
    market, edges = np.zeros(2, dtype=np.int64), np.array([0, 86_400])
    nodes = (curves.rate, curves.running, market, market), (np.array([1, 900]), np.ones_like(market), edges, 1)
    named, elsewhere = nodes
    alone, _ = bands_one_by_one(nodes)
    assert (band_costs.py_func(*named, market, 1, *elsewhere)[0] == alone).all()
    monkeypatch.setattr("solvers.forward._least", lambda rate: int(rate.max()))
    assert (band_costs.py_func(*named, market, 1, *elsewhere)[0] != alone).any()


@settings(max_examples=100, deadline=None)
@given(priced_nodes())
def test_lines_are_the_bands_in_order_and_sum_to_the_total(nodes: PricedNodes) -> None:
    """Law 6: lines are the bands of each market in order, amounts the differences of the rounded running sum."""
    named, elsewhere = nodes
    (rate, _, market, _), (*_, edges, units) = nodes
    costs, counts = band_costs(*named, market, rate.shape[0], *elsewhere)
    parts, _ = line_parts(*named, market, rate.shape[0], *elsewhere, np.array([market.size]))
    lines = parts.tolist()
    running, expected = 0, []
    for own, band, kind in np.argwhere(counts).tolist():
        for adds, part in enumerate(costs[own, band, kind].tolist()):
            if part or not adds:
                amount = rounded(running + part, units) - rounded(running, units)
                rate = per_hour(amount, *edges[band : band + 2].tolist())
                expected.append([own, band, kind, adds, int(counts[own, band, kind]), amount, rate, part])
                running += part
    assert lines == expected
    assert sum(line[5] for line in lines) == rounded(int(costs.sum()), units)


def rounded(cost: int, units: int) -> int:
    """Half up."""
    return (2 * cost + units) // (2 * units)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**11), st.integers(1, 10**11)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**11), st.integers(0, 10**6)), min_size=1, max_size=6),
    st.lists(st.integers(0, 315_360_000), min_size=2, max_size=5, unique=True).map(sorted),
    st.integers(0, 10**11),
)
def test_costs_between_seconds_are_exact_at_any_size(
    prices: list[tuple[int, int]], rows: list[tuple[int, int, int]], seconds: list[int], other_ask: int
) -> None:
    """Law: between any seconds a GPU costs the hours of its curve to the last fraction, and what is paid back is
    the lower of two such costs for each row, in Python's integers, up to the domain's limits."""
    posted, long_run = (np.array(column) for column in zip(*prices, strict=True))
    row, asks, gpus = (np.array(column) for column in zip(*rows, strict=True))
    row %= posted.size
    curves = Curves.of(posted, long_run, 1.0, max(seconds[-1], 1))
    costs = curve_costs(curves, row, asks, seconds)
    assert (costs.part >= 0).all() and (costs.part < 3_600).all()
    exact = costs.exact
    for place, (own, ask) in enumerate(zip(row.tolist(), asks.tolist(), strict=True)):
        rates = curves.rate[own].tolist()
        for span, (start, end) in enumerate(pairwise(seconds)):
            assert exact[place, span] == upto(rates, ask, end) - upto(rates, ask, start)
    others = curve_costs(curves, row, np.full_like(asks, other_ask), seconds)
    least = np.minimum(exact, others.exact) * gpus.astype(object)[:, None]
    assert least_cost(costs, others, gpus) == int(least.sum())


def upto(rates: list[int], ask: int, seconds: int) -> int:
    """Micro-USD · seconds / hour of the first seconds, hour by hour while the curve moves."""
    paid = [max(ask, rate) for rate in rates]
    hours = min(seconds // 3_600, len(paid))
    return sum(paid[:hours]) * 3_600 + (seconds - 3_600 * hours) * paid[min(hours, len(paid) - 1)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**61), min_size=1, max_size=5), st.integers(1, 315_360_000))
def test_average_prices_are_exact(costs: list[int], duration_s: int) -> None:
    """Law: a cost over the duration is rounded half up to a price per hour once, as in Python's integers."""
    units, costs = (
        units_per_hour(duration_s),
        [cost for cost in costs for _ in range(2)],
    )  # equal ones side by side
    found = average_prices(np.array(costs), units, duration_s).tolist()
    divisor = units * duration_s
    assert found == [(2 * 3_600 * cost + divisor) // (2 * divisor) for cost in costs]


NODES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 30), st.sampled_from((1, 2, 4)), st.integers(0, 4)),
    min_size=1,
    max_size=7,
)
"""(site, ask, GPUs, free GPUs, at most all)."""


def priced(nodes: list[tuple[int, int, int, int]], curves: list[tuple[int, int]], duration_s: int) -> Placer:
    """A fleet of one model, a market a site, at forward prices."""
    site, ask, count, free = (np.array(column, dtype=np.int64) for column in zip(*nodes, strict=True))
    zeros = np.zeros_like(site)
    columns = NodeColumns(
        zeros, site, zeros, zeros, zeros, zeros, zeros - 1, zeros, count, ask, zeros + 0.9, np.arange(site.size)
    )
    posted, long_run = (np.array(column, dtype=np.int64) for column in zip(*curves, strict=True))
    pools = Pools(columns, np.minimum(free, count), site, posted, 1)
    none, spare = np.empty(0, dtype=np.int64), Spare(zeros, zeros, 4)
    placer = Placer(pools, Distances(np.zeros(2), np.array([0.0, 90.0]), none, none, np.empty(0)), spare)
    view = PricedPools(pools, lambda m, s: Curves.of(posted[m], long_run[m], 2.0, s), duration_s)
    view.show(np.array([0]))
    pools.views = [view]
    return placer.at(view)


def cheapest(nodes: list[tuple[int, int, int, int]], costs: list[int], wanted: int) -> int | None:
    """The least cost of `wanted` GPUs, by trying every way."""
    rooms = sorted((cost, min(free, count)) for (_, _, count, free), cost in zip(nodes, costs, strict=True))
    best = [0]
    singles = [cost for cost, room in rooms for _ in range(room)]
    best = [sum(choice) for choice in combinations(singles, wanted)] if len(singles) >= wanted else []
    return min(best) if best else None


@settings(max_examples=150, deadline=None)
@given(
    NODES,
    st.tuples(
        st.tuples(st.integers(1, 30), st.integers(1, 30)), st.tuples(st.integers(1, 30), st.integers(1, 30))
    ),
    st.integers(1, 4),
    st.integers(3_601, 90_000),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=6),
)
def test_placements_are_the_cheapest(
    nodes: list[tuple[int, int, int, int]],
    curves: tuple[tuple[int, int], tuple[int, int]],
    wanted: int,
    duration_s: int,
    changes: list[tuple[int, int]],
) -> None:
    """Law: exact under forward prices, also after nodes were taken and given back; ties break as ever."""
    placer, units = priced(nodes, list(curves), duration_s), units_per_hour(duration_s)
    view = placer.pools
    assert isinstance(view, PricedPools)
    for place, free in changes:
        place %= len(nodes)
        nodes[place] = (*nodes[place][:3], min(free, nodes[place][2]))
        view._pools.set_free(np.array([place]), np.array([nodes[place][3]]))
    costs = [slow_cost(ForwardCurve(*curves[s], 2.0), ask, duration_s, units) for s, ask, _, _ in nodes]
    found = placer.place(Demand(wanted, 1, np.array([0]), np.ones(2, dtype=bool)))
    best = cheapest(nodes, costs, wanted)
    assert (found.rate if isinstance(found, Placement) else None) == best
    if isinstance(found, Placement):
        charged = zip(found.nodes.tolist(), found.gpus.tolist(), found.prices_micro_usd.tolist(), strict=True)
        assert all(price == costs[node] and gpus <= nodes[node][3] for node, gpus, price in charged)
    fresh = priced(nodes, list(curves), duration_s).pools
    assert (fresh.histogram == view.histogram).all() and (fresh.table == view.table).all()


@pytest.mark.parametrize("duration_s", [3_600, 5_400, 7_201])
def test_units_divide(duration_s: int) -> None:
    """Law: units are the coarsest that make costs whole."""
    units = units_per_hour(duration_s)
    assert duration_s * units % 3_600 == 0 and units == 3_600 // math.gcd(duration_s, 3_600)


@pytest.mark.parametrize("first_seed", [0, 60, 120])
def test_forward_prices_are_as_exact_as_flat_ones(first_seed: int) -> None:
    """Law: with every constraint, forward prices give what asking the costs themselves would, at flat prices
    (which is proven against CP-SAT elsewhere)."""
    for seed in range(first_seed, first_seed + 60):
        asked, draw = Asked(world_from_seed(seed)), np.random.default_rng(seed)
        inventory, posted = asked.inventory, asked.posted_of_market
        inventory.publish(posted, draw.integers(1, 2 * posted.max(initial=1) + 2, posted.size), 3.0, "curves")
        duration_s = int(draw.integers(3_601, 60_000))
        units, curves = units_per_hour(duration_s), inventory.curves_of(np.arange(posted.size), duration_s)
        costs = [
            cost(curves.rate[market], curves.running[market], ask, duration_s, units, LARGEST)
            for market, ask in zip(inventory.market.tolist(), inventory.nodes.ask_micro_usd.tolist(), strict=True)
        ]
        nodes = replace(inventory.nodes, ask_micro_usd=np.array(costs, dtype=np.int64))
        flat = Pools(nodes, inventory.free, inventory.market, np.zeros_like(posted), len(inventory.models))
        wanted = Placer(flat, inventory.distances, inventory.spare).place(asked.demand)
        gpus = asked.demand.replicas * asked.demand.gpus_per_replica
        found = inventory.placer_for(duration_s, asked.demand.models, gpus).place(asked.demand)
        assert isinstance(found, Placement) == isinstance(wanted, Placement), f"world_from_seed({seed})"
        if isinstance(found, Placement) and isinstance(wanted, Placement):
            assert found.rate == wanted.rate, f"world_from_seed({seed})"
            assert abs(found.idle_broken - wanted.idle_broken) <= 1
