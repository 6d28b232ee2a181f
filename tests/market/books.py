"""Price books for tests."""

from __future__ import annotations

from engine.domain.tiers import SecurityTier
from tests.worlds import MODELS


class NoBook:
    """Knows the models of the test worlds and no price: posted prices are then the median asks."""

    def price_micro_usd(self, gpu_model: str, tier: SecurityTier) -> int | None:
        return None

    def models(self) -> frozenset[str]:
        return frozenset(MODELS)
