"""Small worlds of markets, bids and supply, and the slow, obvious twins of what clears them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from hypothesis import strategies as st
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from engine.domain.tiers import SecurityTier
from engine.oracle.markets import Bids, Int, Market, MarketSets, Supply, next_lower
from engine.oracle.participation import NOBODY

PRICE_END, AMOUNT_END = 10, 7
PRICES, AMOUNTS = st.integers(0, PRICE_END - 1), st.integers(0, AMOUNT_END - 1)


@dataclass(frozen=True)
class World:
    """`options`: for each bid the markets it may use as given, before any closure."""

    markets: tuple[Market, ...]
    options: tuple[tuple[int, ...], ...]
    bids: Bids
    supply: Supply

    @property
    def lower(self) -> Int:
        return next_lower(self.markets)

    def closed(self, options: Iterable[int]) -> set[int]:
        """The options and every higher tier of their model and region, market by market."""
        return {
            better
            for better, name in enumerate(self.markets)
            for market in options
            if name[:2] == self.markets[market][:2] and name.tier >= self.markets[market].tier
        }


def ints(values: object) -> Int:
    return np.array(values, dtype=np.int64)


def bids_of(rows: list[tuple[int, int, int]], options: list[tuple[int, ...]]) -> Bids:
    """Rows of (value, GPU-seconds, tenant), each with a set of markets of its own."""
    sizes = [len(each) for each in options]
    sets = MarketSets(ints([0, *np.cumsum(sizes)]), ints([market for each in options for market in each]))
    value, amount, tenant = ints(rows).reshape(-1, 3).T
    return Bids(value, amount, tenant, np.arange(len(rows)), sets)


def supply_of(rows: list[tuple[int, int, int]], owners: list[int] | None = None) -> Supply:
    """Rows of (market, ask, amount)."""
    market, ask, amount = ints(rows).reshape(-1, 3).T
    return Supply(market, ask, amount, ints(owners if owners is not None else [NOBODY] * len(rows)))


def world_from_seed(seed: int, size: int, markets: int) -> World:
    """Up to so many markets of two models, with up to `size` bids and rows; small numbers, so that ties abound."""
    random = np.random.default_rng(seed)
    names = [Market(model, "r", tier) for model in "ab" for tier in SecurityTier]
    kept = np.sort(random.choice(len(names), random.integers(1, markets + 1), replace=False))
    count, row_count = random.integers(0, size + 1, 2)
    options = [tuple(np.flatnonzero(random.random(kept.size) < 0.5).tolist()) for _ in range(count)]
    bids = random.integers(0, (PRICE_END, AMOUNT_END, 4), (count, 3))
    supply = random.integers(0, (kept.size, PRICE_END, AMOUNT_END), (row_count, 3))
    return World(tuple(names[each] for each in kept), tuple(options), bids_of(bids, options), supply_of(supply))


def worlds(size: int = 8, markets: int = 4) -> st.SearchStrategy[World]:
    """Worlds by seed: many a second, and each can be made again."""
    return st.integers(0, 2**32 - 1).map(lambda seed: world_from_seed(seed, size, markets))


def dual_by_hand(world: World, price: Int) -> Int:
    """D times 3,600 at prices (..., markets): bid by bid and row by row, over the options as given."""
    bids, supply = world.bids, world.supply
    total = np.zeros(price.shape[:-1], dtype=np.int64)
    for value, amount, options in zip(
        bids.value_micro_usd_per_gpu_hour, bids.gpu_seconds, world.options, strict=True
    ):
        if options:
            total += amount * np.maximum(0, value - price[..., list(options)].min(axis=-1))
    for market, ask, amount in zip(supply.market, supply.ask_micro_usd_per_gpu_hour, supply.gpus, strict=True):
        total += amount * np.maximum(0, price[..., market] - ask)
    return total


def minimisers(world: World, above: int) -> Int:
    """All prices (n, markets) in [0, above], in order along dominance, where D is least: by trying them all."""
    points = {0, above, *world.bids.value_micro_usd_per_gpu_hour, *world.supply.ask_micro_usd_per_gpu_hour}
    price = ints(list(product(sorted(points), repeat=len(world.markets))))
    here = np.flatnonzero(world.lower >= 0)
    price = price[(price[:, here] >= price[:, world.lower[here]]).all(axis=1)]
    dual = dual_by_hand(world, price)
    return price[dual == dual.min()]


def best_allocation(
    world: World, extra: list[tuple[int, int, int]] = (), forced: list[tuple[int, set[int]]] = (), scale: int = 1
) -> tuple[int, list[tuple[int, int, int]]]:  # fmt: skip
    """(welfare times 3,600, sales as (bid, row, amount)) of the relaxation over the closed options, by a
    minimum-cost flow.

    `extra`: more rows of supply; `forced`: (amount, markets) that someone buys at 1,000; `scale` multiplies all
    amounts of the world itself.
    """
    bids, supply, flow = world.bids, world.supply, SimpleMinCostFlow()
    rows = [*zip(supply.market, supply.ask_micro_usd_per_gpu_hour, supply.gpus * scale, strict=True), *extra]
    values, amounts = bids.value_micro_usd_per_gpu_hour, bids.gpu_seconds * scale
    wanted = [*zip(values, amounts, map(world.closed, world.options), strict=True)]
    wanted += [(1_000, amount, options) for amount, options in forced]
    sales = {}
    for bid, (value, amount, options) in enumerate(wanted):
        for row, (market, ask, offered) in enumerate(rows):
            if market in options:
                most, seller = min(amount, offered), len(wanted) + row
                arc = flow.add_arc_with_capacity_and_unit_cost(bid, seller, most, ask - value)
                sales[arc] = (bid, row)
        flow.add_arc_with_capacity_and_unit_cost(bid, len(wanted) + len(rows), amount, 0)
        flow.set_node_supply(bid, amount)
    for row, (_, _, offered) in enumerate(rows):
        flow.add_arc_with_capacity_and_unit_cost(len(wanted) + row, len(wanted) + len(rows), offered, 0)
    flow.set_node_supply(len(wanted) + len(rows), -sum(amount for _, amount, _ in wanted))
    assert flow.solve() == flow.OPTIMAL
    return -flow.optimal_cost(), [(*sales[arc], flow.flow(arc)) for arc in sales if flow.flow(arc)]
