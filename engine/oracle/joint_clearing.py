"""Clearing prices of all markets at once: the duals of the planner's relaxation (DESIGN, section 3.1).

Bids may use sets of markets, a market is supplied at several asks, and there is one price per market; a node costs
max(ask, price). The clearing prices are the smallest minimiser of

    D(p) = Σ_bids GPU-s·max(0, value − min p over its markets) + Σ_supply GPU-s·max(0, p − ask)

subject to dominance: the next lower tier of a model and region never costs more. It is kept by letting every bid
also use the higher tiers of its markets: where prices are in order that changes no minimum, so D is the same, and
it puts the least minimiser in order (whoever is left unserved below is left unserved above); the greatest is put
in order by lowering it. A market without trade thereby inherits the price below it, in the same optimisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.oracle.clearing import Reason
from engine.oracle.dominance import lowered
from engine.oracle.markets import Bids, Int, MarketSets, Supply
from solvers.market_clearing.exact import UNBOUNDED, greatest_prices, least_prices

Flags = NDArray[np.bool_]
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class JointClearing:
    """Per market (markets,), micro-USD per GPU-hour: p* = p−, p+ (UNBOUNDED where none is too high), and why."""

    price: Int
    upper: Int
    reasons: tuple[Reason, ...]


def clear_markets(bids: Bids, supply: Supply, gpu_seconds: Int, lower: Int) -> JointClearing:
    """Clear all markets at once.

    `gpu_seconds`: what each row of `supply` can sell in the window. `lower`: index of the next lower tier of each
    market, or -1 (`engine.oracle.markets.next_lower`).
    """
    sets = upward_closed(bids.sets, lower)
    problem = (
        sets.first, sets.markets, bids.market_set, bids.value_micro_usd_per_gpu_hour, bids.gpu_seconds,
        supply.market, supply.ask_micro_usd_per_gpu_hour, gpu_seconds, lower.size,
    )  # fmt: skip
    price, upper = least_prices(*problem), greatest_prices(*problem)
    bounded = lowered(np.where(upper == UNBOUNDED, NEVER, upper), lower)
    return JointClearing(
        price, np.where(bounded == NEVER, UNBOUNDED, bounded), _reasons(price, bids, supply, gpu_seconds, lower)
    )


def dual_micro_usd(price: Int, bids: Bids, supply: Supply, gpu_seconds: Int) -> float:
    """D at any prices (markets,), micro-USD: no allocation has more welfare."""
    buyers = np.maximum(bids.value_micro_usd_per_gpu_hour - cheapest_price(price, bids), 0.0) * bids.gpu_seconds
    sellers = np.maximum(price[supply.market] - supply.ask_micro_usd_per_gpu_hour, 0.0) * gpu_seconds
    return float(buyers.sum() + sellers.sum()) / 3_600


def regrets_micro_usd(
    price: Int, bids: Bids, supply: Supply, gpu_seconds: Int, sold: tuple[Int, Int, Int]
) -> tuple[float, float]:
    """(buyers', suppliers') regret, micro-USD, of an allocation at prices: what each misses.

    `sold`: bid, row of supply and GPU-seconds of each sale; it must respect eligibility and both sides' amounts.
    Nodes are paid max(ask, price). The sum is D(price) − welfare: it certifies allocation and prices at once.
    """
    bid, row, amount = sold
    paid = np.maximum(price[supply.market], supply.ask_micro_usd_per_gpu_hour)[row].astype(float)
    best_buy = np.maximum(bids.value_micro_usd_per_gpu_hour - cheapest_price(price, bids), 0.0) * bids.gpu_seconds
    bought = (bids.value_micro_usd_per_gpu_hour[bid] - paid) * amount
    best_sale = np.maximum(price[supply.market] - supply.ask_micro_usd_per_gpu_hour, 0.0) * gpu_seconds
    earned = (paid - supply.ask_micro_usd_per_gpu_hour[row]) * amount
    return float(best_buy.sum() - bought.sum()) / 3_600, float(best_sale.sum() - earned.sum()) / 3_600


def cheapest_price(price: Int, bids: Bids) -> NDArray[np.float64]:
    """Least price over the markets of each bid, (bids,); inf where it has none."""
    first, markets = bids.sets.first, bids.sets.markets
    least = np.full(first.size - 1, np.inf)
    used = np.diff(first) > 0
    if used.any():
        least[used] = np.minimum.reduceat(price[markets], first[:-1][used])
    return least[bids.market_set]


def upward_closed(sets: MarketSets, lower: Int) -> MarketSets:
    """The sets with all higher tiers of their markets added; the same object if none are missing."""
    has_higher = np.append(lower[1:] >= 0, False)[: lower.size]
    first, markets = sets.first, sets.markets
    while True:
        of_set = np.repeat(np.arange(first.size - 1), np.diff(first))
        followed = (markets[1:] == markets[:-1] + 1) & (of_set[1:] == of_set[:-1])
        missing = np.flatnonzero(has_higher[markets] & ~np.append(followed, False)[: markets.size])
        if not missing.size:
            return MarketSets(first, markets) if first is not sets.first else sets
        markets = np.insert(markets, missing + 1, markets[missing] + 1)
        first = first + np.searchsorted(missing, first)


def _reasons(price: Int, bids: Bids, supply: Supply, gpu_seconds: Int, lower: Int) -> tuple[Reason, ...]:
    some = gpu_seconds > 0
    ask = supply.ask_micro_usd_per_gpu_hour[some] - price[supply.market[some]]
    at_ask = _marked(supply.market[some][ask == 0], lower.size)
    sellable = _marked(supply.market[some][ask <= 0], lower.size)
    at_value = _marked_by_bids(price, bids, lower.size, exact=True)
    buyable = _marked_by_bids(price, bids, lower.size, exact=False)
    same_as_lower = (lower >= 0) & (price == price[lower])
    conditions = [price == 0, same_as_lower & ~(sellable & buyable), at_ask, at_value]
    chosen = np.select(conditions, [0, 1, 2, 3], 4).tolist()
    named = (Reason.NO_TRADE, Reason.INHERITED, Reason.ASK, Reason.DEMAND, Reason.SUBSTITUTE)
    return tuple(named[each] for each in chosen)


def _marked(markets: Int, count: int) -> Flags:
    flags = np.zeros(count, dtype=bool)
    flags[markets] = True
    return flags


def _marked_by_bids(price: Int, bids: Bids, count: int, exact: bool) -> Flags:
    """Markets where some bid's own cheapest choice is, at exactly its value or at no more than it."""
    set_count, value = bids.sets.sizes.size, bids.value_micro_usd_per_gpu_hour
    least = cheapest_price(price, bids)
    chosen = (bids.gpu_seconds > 0) & ((value == least) if exact else (value >= least))
    set_flags = _marked(bids.market_set[chosen], set_count)
    set_least = np.full(set_count, np.inf)
    set_least[bids.market_set] = least
    of_set = bids.sets.of_pair
    at = set_flags[of_set] & (price[bids.sets.markets] == set_least[of_set])
    return _marked(bids.sets.markets[at], count)
