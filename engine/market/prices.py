"""The price book: what a market's posted price is until an oracle moves it.

The posted price of a market is the reference price of its GPU model and tier (a median of published prices).
A model that no reference names gets the median ask of its own nodes in that tier, and the price says so.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.domain.money import itemise_micro_usd
from engine.domain.tiers import SecurityTier
from engine.market.events import PriceLine
from engine.market.inventory import Inventory
from solvers.placement import Placement

Int = NDArray[np.int64]
REFERENCE, FLEET_ASKS = "REFERENCE", "FLEET_ASKS"


class PriceBook(Protocol):
    """Where posted prices come from."""

    def price_micro_usd(self, gpu_model: str, tier: SecurityTier) -> int | None:
        """Micro-USD per GPU-hour; None where the book knows no price."""

    def models(self) -> frozenset[str]:
        """GPU models the book knows."""


def posted_prices(inventory: Inventory, book: PriceBook) -> tuple[Int, list[str], str]:
    """(price per market in the order of `Inventory.markets`, source per market, snapshot id)."""
    keys = inventory.markets
    prices, sources = np.empty(keys.size, dtype=np.int64), []
    for index, key in enumerate(keys):
        model, _, tier = inventory.market_names(key)
        known = book.price_micro_usd(model, SecurityTier[tier])
        prices[index] = _median_ask(inventory, model, tier) if known is None else known
        sources.append(FLEET_ASKS if known is None else REFERENCE)
    digest = hashlib.sha256(keys.tobytes() + prices.tobytes()).hexdigest()
    return prices, sources, f"prices-{digest[:16]}"


def price_lines(inventory: Inventory, found: Placement, duration_s: int) -> list[PriceLine]:
    """The parts of a total: per market the GPUs at the posted price and those whose ask is above it."""
    rates = found.line_rates.tolist()
    parts = zip(
        inventory.markets[found.lines // 2].tolist(),
        (found.lines % 2).tolist(),
        found.line_gpus.tolist(),
        rates,
        itemise_micro_usd(rates, duration_s),
        strict=True,
    )
    return [
        PriceLine(*inventory.market_names(market), "ASK" if above else "POSTED", gpus, rate, amount)
        for market, above, gpus, rate, amount in parts
    ]


def _median_ask(inventory: Inventory, model: str, tier: str) -> int:
    nodes = inventory.nodes
    own = (nodes.model == inventory.models.code[model]) & (nodes.tier == SecurityTier[tier])
    return int(np.median(nodes.ask_micro_usd[own]))
