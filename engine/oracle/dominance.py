"""A better product never costs less: prices put in order along the tiers of each model and region.

`lower` is that of `engine.oracle.markets.next_lower`: the market before, where it is a lower tier, else -1.
"""

from __future__ import annotations

import numpy as np

from engine.domain.tiers import SecurityTier
from engine.oracle.markets import Int

STEPS = len(SecurityTier) - 1


def raised(price: Int, lower: Int) -> Int:
    """Each price raised to the highest among the lower tiers of its model and region, (markets,)."""
    for _ in range(STEPS):
        price = np.where(lower >= 0, np.maximum(price, price[lower]), price)
    return price


def lowered(price: Int, lower: Int) -> Int:
    """Each price lowered to the lowest among the higher tiers of its model and region, (markets,)."""
    has_higher, higher = np.append(lower[1:] >= 0, False)[: lower.size], np.roll(np.arange(lower.size), -1)
    for _ in range(STEPS):
        price = np.where(has_higher, np.minimum(price, price[higher]), price)
    return price


def opened(known: Int, opening: Int, lower: Int) -> Int:
    """The known prices; where they are -1, opening prices moved between the known ones of the tiers beside.

    `known` is in order along dominance where it is known, `opening` (positive) everywhere; so is the result.
    """
    ceiling = lowered(np.where(known < 0, np.iinfo(np.int64).max, known), lower)
    return np.where(known < 0, np.clip(opening, raised(known, lower), ceiling), known)
