"""The price book: what a market's posted price is until the oracle moves it.

The posted price of a market is the reference price of its GPU model and tier (a median of published prices).
A model that no reference names gets the median ask of its own nodes in that tier, and the price says so.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.domain.tiers import SecurityTier
from engine.market.apply import ORACLE
from engine.market.inventory import Inventory
from engine.market.state import MarketState

Int = NDArray[np.int64]
REFERENCE, FLEET_ASKS = "REFERENCE", "FLEET_ASKS"


class PriceBook(Protocol):
    """Where posted prices come from."""

    def price_micro_usd(self, gpu_model: str, tier: SecurityTier) -> int | None:
        """Micro-USD per GPU-hour; None where the book knows no price."""

    def models(self) -> frozenset[str]:
        """GPU models the book knows."""


class Prices(NamedTuple):
    """By market in the order of `Inventory.markets`: micro-USD per GPU-hour, (markets,), and their sources."""

    posted: Int
    long_run: Int
    sources: list[str]
    snapshot_id: str


def posted_prices(inventory: Inventory, book: PriceBook, state: MarketState) -> Prices:
    """Prices after a load: those of the markets before it are kept; a new market opens at the book's price."""
    before, keys = state.inventory, inventory.markets
    posted, long_run, sources = np.empty(keys.size, dtype=np.int64), np.empty(keys.size, dtype=np.int64), []
    for index, key in enumerate(keys.tolist()):
        model, region, tier = inventory.market_names(key)
        known = book.price_micro_usd(model, SecurityTier[tier])
        place = before.market_index.get((model, region, tier))
        if place is not None and state.price_sources[place] == ORACLE:
            posted[index], long_run[index] = before.posted_of_market[place], before.long_run[place]
            sources.append(ORACLE)
            continue
        posted[index] = long_run[index] = _median_ask(inventory, model, tier) if known is None else known
        sources.append(FLEET_ASKS if known is None else REFERENCE)
    if set(sources) == {ORACLE} and before.markets.size == keys.size:
        return Prices(posted, long_run, sources, before.price_snapshot_id)
    digest = hashlib.sha256(keys.tobytes() + posted.tobytes() + long_run.tobytes()).hexdigest()
    return Prices(posted, long_run, sources, f"prices-{digest[:16]}")


def _median_ask(inventory: Inventory, model: str, tier: str) -> int:
    nodes = inventory.nodes
    own = (nodes.model == inventory.models.code[model]) & (nodes.tier == SecurityTier[tier])
    return int(np.median(nodes.ask_micro_usd[own]))
