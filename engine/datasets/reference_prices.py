"""The reference price of a GPU-hour by model and security tier: what a tenant finds on price lists.

FACT: RunPod sells nine models at a community and at a secure tier; the median ratio is 1.168 (quartiles 1.07
and 1.22). Dataoorts asks 1.84 USD for the RTX PRO 6000 with confidential computing and 1.65 for the server
edition without: a factor of 1.115, from one pair (gpu-pricing, 2026-05-24, as in `gpu_models`).
ASSUMED: the median over all firm offers stands for VERIFIED, halfway (geometrically) between the two:
√1.168 = 1.081 below SECURE and above COMMUNITY.
FACT: over the 56 pairs of an on-demand and a spot offer of one model by one provider, the median ratio is 2.28.
"""

from __future__ import annotations

from engine.datasets.gpu_models import GPU_MODELS
from engine.domain.tiers import SecurityTier

TIER_FACTOR_PERMILLE: dict[SecurityTier, int] = {
    SecurityTier.COMMUNITY: 925,
    SecurityTier.VERIFIED: 1_000,
    SecurityTier.SECURE: 1_081,
    SecurityTier.CONFIDENTIAL: 1_205,
}
"""Price of a tier in thousandths of the price of VERIFIED; a higher tier never costs less."""

SPOT_TO_FIRM = 1 / 2.28
"""Median spot price as a share of the firm price of the same model and provider."""

REFERENCE_PRICE_MICRO_USD: dict[str, int] = {model.name: model.reference_micro_usd for model in GPU_MODELS}
"""Micro-USD per GPU-hour by canonical model name, on demand, tier VERIFIED."""


def reference_price_micro_usd(gpu_model: str, tier: SecurityTier) -> int | None:
    """Reference on-demand price of a GPU-hour in micro-USD, rounded down; None for an unknown model."""
    price = REFERENCE_PRICE_MICRO_USD.get(gpu_model)
    return None if price is None else price * TIER_FACTOR_PERMILLE[tier] // 1_000
