"""Who sets a market's price: self-dealing left out, and how much rests on one party."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.oracle.markets import NOBODY, Bids, Int, MarketSets, Supply

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Participation:
    """Per market: distinct tenants that bid, and the largest tenant's and owner's share of GPUs·time, 0 to 1."""

    tenants: Int
    largest_tenant_share: Float
    largest_owner_share: Float


def without_self_dealing(bids: Bids, supply: Supply, market_count: int) -> Bids:
    """The bids, none of which may use a market that its own tenant supplies (payments to oneself cost nothing)."""
    owned = supply.owner != NOBODY
    own_markets = np.unique(supply.owner[owned] * market_count + supply.market[owned])
    dealing = np.flatnonzero(np.isin(bids.tenant, own_markets // market_count))
    if not dealing.size:
        return bids
    pairs, of_bid = bids.sets.pairs_of(bids.market_set[dealing])
    markets = bids.sets.markets[pairs]
    kept = ~np.isin(bids.tenant[dealing][of_bid] * market_count + markets, own_markets)
    sizes = np.bincount(of_bid[kept], minlength=dealing.size)
    sets = MarketSets(
        np.concatenate((bids.sets.first, bids.sets.first[-1] + np.cumsum(sizes))),
        np.concatenate((bids.sets.markets, markets[kept])),
    )
    market_set = bids.market_set.copy()
    market_set[dealing] = bids.sets.sizes.size + np.arange(dealing.size)
    return Bids(bids.value_micro_usd_per_gpu_hour, bids.gpu_seconds, bids.tenant, market_set, sets)


def participation(bids: Bids, supply: Supply, market_count: int) -> Participation:
    """Count who takes part. A bid counts whole in every market it may use; supply of NOBODY is many small ones."""
    set_count = bids.sets.sizes.size
    some = bids.gpu_seconds > 0
    key, amount = _totals(bids.tenant[some] * set_count + bids.market_set[some], bids.gpu_seconds[some])
    pairs, of_key = bids.sets.pairs_of(key % max(set_count, 1))
    tenant = key[of_key] // max(set_count, 1)
    key, amount = _totals(tenant * market_count + bids.sets.markets[pairs], amount[of_key])
    owned = (supply.owner != NOBODY) & (supply.gpus > 0)
    sold = _summed(supply.market, supply.gpus, market_count)
    own_key, gpus = _totals(supply.owner[owned] * market_count + supply.market[owned], supply.gpus[owned])
    return Participation(
        np.bincount(key % market_count, minlength=market_count),
        _largest_share(key % market_count, amount, _summed(key % market_count, amount, market_count)),
        _largest_share(own_key % market_count, gpus, sold),
    )


def _totals(keys: Int, amounts: Int) -> tuple[Int, Int]:
    """Distinct keys, ascending, and the sum of each one's amounts."""
    order = np.argsort(keys, kind="stable")
    keys, amounts = keys[order], amounts[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: keys.size])
    return keys[starts], np.add.reduceat(amounts, starts) if keys.size else amounts


def _summed(market: Int, amount: Int, market_count: int) -> Float:
    return np.bincount(market, weights=amount, minlength=market_count).astype(float)


def _largest_share(market: Int, amount: Int, total: Float) -> Float:
    largest = np.zeros(total.size)
    np.maximum.at(largest, market, amount)
    return np.divide(largest, total, out=np.zeros(total.size), where=total > 0)
