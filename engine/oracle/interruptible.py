"""Selling idle GPUs to interruptible gangs (DESIGN, section 3.5): a market's price, and the best set of gangs.

    price = max(p−, highest ask used, floor)

Winners are the best set of whole gangs that bid at least that: the greatest Σ gpus·bid − Σ asks of the GPUs used,
cheapest first. Nobody pays above his bid, no supplier gets less than his ask.

Exactly, while gangs × GPUs is at most `EXACT_CELLS`: a knapsack by dynamic programming, one row per gang in order
of falling bid. A highest ask a admits the gangs that bid at least max(p−, floor, a), which is a prefix of that
order, and the GPUs asked for at most a; so one pass answers for every a. Beyond that: for every a, gangs in that
order, each taken if it still fits, the best a wins; and the welfare bound of the divisible problem says how far
that can be from the best.

Ties: higher welfare, then the lower price, then fewer GPUs, then the higher bids, then the order given.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import MarketPrice

Int = NDArray[np.int64]
EXACT_CELLS = 20_000_000


class Outcome(StrEnum):
    """What became of a gang."""

    WON = "WON"
    BELOW_PRICE = "BELOW_PRICE"
    """It bids less than the price."""
    INDIVISIBLE = "INDIVISIBLE"
    """It bids enough, but does not fit whole beside better gangs; part of it would."""
    OUTBID = "OUTBID"
    """It bids enough, but every GPU went to gangs that bid at least as much."""


@dataclass(frozen=True, slots=True)
class InterruptibleSale:
    """The price, micro-USD per GPU-hour; the outcome of each gang in the order given; GPUs used of each offer.

    Welfare is micro-USD per hour, `bound` a proven upper bound of it over all prices; equal if `is_exact`.
    """

    price_micro_usd_per_gpu_hour: int
    outcomes: tuple[Outcome, ...]
    gpus_used: tuple[int, ...]
    welfare_micro_usd_per_hour: int
    bound_micro_usd_per_hour: int
    is_exact: bool


def interruptible_price(price: MarketPrice, parameters: OracleParameters) -> int:
    """What a market's interruptible GPUs cost until the next epoch, where their asks are lower: max(p−, floor).

    p− as it may be shown, rounded down to the grid; where too few tenants set it, the posted price stands in for
    one above the floor: a price must not reveal a rival's bid.
    """
    floor, bracket = price.floor_micro_usd_per_gpu_hour, price.shown_bracket(parameters)
    if bracket is not None:
        return max(bracket[0], floor)
    scarce = price.clearing_micro_usd_per_gpu_hour > floor
    return max(price.posted_micro_usd_per_gpu_hour, floor) if scarce else floor


@dataclass(frozen=True, slots=True)
class _Sale:
    """Gangs by falling bid, offers by rising ask; `cost[k]`: asks of the k cheapest GPUs."""

    gpus: Int
    bid: Int
    capacity: int
    cost: Int
    ask: Int
    lowest_price: int

    def levels(self) -> list[tuple[int, int, int]]:
        """(price, gangs admitted, GPUs asked for at most the price) of each highest ask, prices rising."""
        asks = np.unique(self.ask[: self.capacity]).tolist()
        prices = sorted({self.lowest_price, *(ask for ask in asks if ask > self.lowest_price)})
        admitted = self.bid.size - np.searchsorted(self.bid[::-1], prices)
        sellable = np.searchsorted(self.ask, prices, side="right")
        return list(zip(prices, admitted.tolist(), sellable.tolist(), strict=True))


def sell_interruptible(
    gpus: Int,
    bid_micro_usd_per_gpu_hour: Int,
    ask_micro_usd_per_gpu_hour: Int,
    offered_gpus: Int,
    scarcity_micro_usd_per_gpu_hour: int,
    floor_micro_usd_per_gpu_hour: int,
) -> InterruptibleSale:
    """Sell offers (ask, GPUs) to gangs (GPUs >= 1, bid), int64 each; `scarcity` is p− of the market."""
    order = np.argsort(-bid_micro_usd_per_gpu_hour, kind="stable")
    by_ask = np.argsort(ask_micro_usd_per_gpu_hour, kind="stable")
    capacity = min(int(offered_gpus.sum()), int(gpus.sum()))
    ask = np.repeat(ask_micro_usd_per_gpu_hour[by_ask], offered_gpus[by_ask])
    sale = _Sale(
        gpus=gpus[order],
        bid=bid_micro_usd_per_gpu_hour[order],
        capacity=capacity,
        cost=np.concatenate(([0], np.cumsum(ask))),
        ask=ask,
        lowest_price=max(scarcity_micro_usd_per_gpu_hour, floor_micro_usd_per_gpu_hour),
    )
    is_exact = gpus.size * (capacity + 1) <= EXACT_CELLS
    won, welfare = _best_exactly(sale) if is_exact else _best_greedily(sale)
    winners = np.zeros(gpus.size, dtype=bool)
    winners[order[won]] = True
    used = _used(int(gpus[winners].sum()), offered_gpus, by_ask)
    price = max([sale.lowest_price, *ask_micro_usd_per_gpu_hour[used > 0].tolist()])
    unsold = int(offered_gpus[ask_micro_usd_per_gpu_hour <= price].sum() - used.sum())
    outcomes = _outcomes(price, winners, bid_micro_usd_per_gpu_hour, unsold)
    bound = welfare if is_exact else _divisible_bound(sale)
    return InterruptibleSale(price, outcomes, tuple(used.tolist()), welfare, bound, is_exact)


def _best_exactly(sale: _Sale) -> tuple[Int, int]:
    """(winners as positions by falling bid, welfare) of the best set."""
    size = sale.capacity + 1
    worth = np.full(size, -1, dtype=np.int64)
    worth[0] = 0
    taken = np.zeros((sale.gpus.size, size), dtype=bool)
    best = (0, -sale.lowest_price, 0, 0)  # welfare, -price, -GPUs, gangs admitted
    at = 0
    for price, admitted, sellable in reversed(sale.levels()):
        for gang in range(at, admitted):
            _add(worth, taken[gang], int(sale.gpus[gang]), int(sale.bid[gang]))
        at = max(at, admitted)
        most = min(sellable, sale.capacity) + 1
        welfare = np.where(worth[:most] >= 0, worth[:most] - sale.cost[:most], -1)
        total = int(np.argmax(welfare))
        best = max(best, (int(welfare[total]), -price, -total, admitted))
    return _traced(taken[: best[3]], sale.gpus, -best[2]), best[0]


def _add(worth: Int, taken: NDArray[np.bool_], gpus: int, bid: int) -> None:
    """Offer one more gang to the knapsack: `worth[k]`, the most that bids for exactly k GPUs add up to, -1 if k
    cannot be reached; `taken[k]`: whether the gang is in. Both are mutated.
    """
    if gpus >= worth.size:
        return
    before = worth[:-gpus]
    offered = np.where(before >= 0, before + gpus * bid, -1)
    better = offered > worth[gpus:]
    taken[gpus:] = better
    np.copyto(worth[gpus:], offered, where=better)


def _traced(taken: NDArray[np.bool_], gpus: Int, total: int) -> Int:
    """The gangs behind `worth[total]`."""
    won = []
    for gang in range(taken.shape[0] - 1, -1, -1):
        if taken[gang, total]:
            won.append(gang)
            total -= int(gpus[gang])
    return np.array(won[::-1], dtype=np.int64)


def _best_greedily(sale: _Sale) -> tuple[Int, int]:
    """(winners, welfare) of the best highest ask, with gangs taken in order while they fit."""
    best: tuple[int, int, int, list[int]] = (0, -sale.lowest_price, 0, [])
    sizes, bids = sale.gpus.tolist(), sale.bid.tolist()
    for price, admitted, sellable in sale.levels():
        won, total, worth = [], 0, 0
        for gang in range(admitted):
            if total + sizes[gang] <= sellable:
                won.append(gang)
                total += sizes[gang]
                worth += sizes[gang] * bids[gang]
        best = max(best, (worth - int(sale.cost[total]), -price, -total, won), key=lambda each: each[:3])
    return np.array(best[3], dtype=np.int64), best[0]


def _divisible_bound(sale: _Sale) -> int:
    """Welfare if gangs could be divided: the highest bids meet the lowest asks."""
    bids = np.repeat(sale.bid, sale.gpus)[: sale.capacity]
    surplus = np.where(bids >= sale.lowest_price, bids - sale.ask[: bids.size], 0)
    return int(np.maximum(surplus, 0).sum())


def _used(total: int, offered: Int, by_ask: Int) -> Int:
    """GPUs used of each offer if `total` are taken, cheapest first."""
    before = np.cumsum(offered[by_ask]) - offered[by_ask]
    used = np.empty_like(offered)
    used[by_ask] = np.clip(total - before, 0, offered[by_ask])
    return used


def _outcomes(price: int, winners: NDArray[np.bool_], bid: Int, unsold: int) -> tuple[Outcome, ...]:
    lowest_winner = int(bid[winners].min(initial=np.iinfo(np.int64).max))
    left_out = np.where((unsold > 0) | (bid > lowest_winner), 2, 3)
    codes = np.where(winners, 0, np.where(bid < price, 1, left_out)).tolist()
    return tuple(tuple(Outcome)[code] for code in codes)
