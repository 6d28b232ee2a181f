"""What the oracle prices, and what it sees of it: markets, supply, bids. Checked once, then trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_PRICE_MICRO_USD_PER_GPU_HOUR
from engine.domain.tiers import SecurityTier

Int = NDArray[np.int64]
NOBODY = -1
"""Code of an owner that is no tenant."""


class Market(NamedTuple):
    """(GPU model, region, security tier); sorts by it, so that tiers of one model and region stand together."""

    gpu_model: str
    region: str
    tier: SecurityTier


@dataclass(frozen=True, slots=True)
class MarketSets:
    """Which markets the requests of one kind may use: set s is `markets[first[s]:first[s + 1]]`, ascending.

    A market belongs to a set only if it can hold the whole gang (DESIGN, section 2). InvalidInput if unsorted.
    """

    first: Int
    markets: Int

    def __post_init__(self) -> None:
        falls = np.diff(self.markets) <= 0
        falls[self.first[(self.first > 0) & (self.first < self.markets.size)] - 1] = False
        if falls.any():
            raise InvalidInput([Violation("market_sets", "markets of a set must ascend")])

    @property
    def sizes(self) -> Int:
        """Markets of each set, (sets,)."""
        return np.diff(self.first)

    @property
    def of_pair(self) -> Int:
        """The set of each entry of `markets`."""
        return np.repeat(np.arange(self.sizes.size), self.sizes)

    def pairs_of(self, chosen: Int) -> tuple[Int, Int]:
        """(positions in `markets` of all chosen sets, one after the other; index into `chosen` of each)."""
        sizes = self.sizes[chosen]
        of_chosen = np.repeat(np.arange(chosen.size), sizes)
        within = np.arange(of_chosen.size) - (np.cumsum(sizes) - sizes)[of_chosen]
        return self.first[chosen][of_chosen] + within, of_chosen


@dataclass(frozen=True, slots=True)
class Supply:
    """What can be sold in the window, a row per market, ask and owner: (rows,) int64.

    `gpus` counts READY GPUs, free and leased. `owner` is the tenant code of who owns the nodes, or NOBODY.
    """

    market: Int
    ask_micro_usd_per_gpu_hour: Int
    gpus: Int
    owner: Int

    def __post_init__(self) -> None:
        _check("supply", self.market, self.ask_micro_usd_per_gpu_hour, self.gpus, self.owner)


@dataclass(frozen=True, slots=True)
class Bids:
    """Demand: (bids,) int64. A gang of n GPUs for d seconds is one bid of n·d GPU-seconds at its price limit.

    `tenant` is a code, comparable with `Supply.owner`. Funded orders and arrivals of the window are both bids; a
    request is in one of the two, not in both.
    """

    value_micro_usd_per_gpu_hour: Int
    gpu_seconds: Int
    tenant: Int
    market_set: Int
    sets: MarketSets

    def __post_init__(self) -> None:
        if not within(self.market_set, self.sets.sizes.size):
            raise InvalidInput([Violation("market_set", "names a set that is not listed")])
        _check("bids", self.market_set, self.value_micro_usd_per_gpu_hour, self.gpu_seconds, self.tenant)


def joined(one: Bids, other: Bids) -> Bids:
    """The bids of both, first `one`'s."""
    sets = MarketSets(
        np.concatenate((one.sets.first, one.sets.first[-1] + other.sets.first[1:])),
        np.concatenate((one.sets.markets, other.sets.markets)),
    )
    return Bids(
        np.concatenate((one.value_micro_usd_per_gpu_hour, other.value_micro_usd_per_gpu_hour)),
        np.concatenate((one.gpu_seconds, other.gpu_seconds)),
        np.concatenate((one.tenant, other.tenant)),
        np.concatenate((one.market_set, other.market_set + one.sets.sizes.size)),
        sets,
    )


def within(index: Int, size: int) -> bool:
    """Whether all indices are in [0, size)."""
    return not index.size or 0 <= int(index.min()) <= int(index.max()) < size


def _check(name: str, market: Int, price: Int, amount: Int, who: Int) -> None:
    """InvalidInput unless all columns have one length, prices are in [0, 10^11] and amounts at least 0."""
    found = []
    if len({market.size, price.size, amount.size, who.size}) > 1:
        found.append(Violation(name, "columns differ in length"))
    if price.size and not 0 <= int(price.min()) <= int(price.max()) <= MAX_PRICE_MICRO_USD_PER_GPU_HOUR:
        found.append(Violation(name, f"prices must be between 0 and {MAX_PRICE_MICRO_USD_PER_GPU_HOUR}"))
    if amount.size and int(amount.min()) < 0:
        found.append(Violation(name, "amounts must not be negative"))
    if found:
        raise InvalidInput(found)


def next_lower(markets: tuple[Market, ...]) -> Int:
    """For each of the sorted markets, the index of the next lower tier of its model and region, or -1."""
    lower = np.full(len(markets), -1, dtype=np.int64)
    for index in range(1, len(markets)):
        if markets[index][:2] == markets[index - 1][:2]:
            lower[index] = index - 1
    return lower
