"""The price book of an engine without an oracle: published reference prices."""

from __future__ import annotations

from engine.datasets.reference_prices import REFERENCE_PRICE_MICRO_USD, reference_price_micro_usd
from engine.domain.tiers import SecurityTier


class ReferenceBook:
    """Median published prices by GPU model and tier, from `engine.datasets.reference_prices`."""

    def price_micro_usd(self, gpu_model: str, tier: SecurityTier) -> int | None:
        """Micro-USD per GPU-hour; None for a model that no price list names."""
        return reference_price_micro_usd(gpu_model, tier)

    def models(self) -> frozenset[str]:
        """GPU models with a reference price."""
        return _MODELS


_MODELS = frozenset(REFERENCE_PRICE_MICRO_USD)
