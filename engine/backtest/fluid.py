"""The fluid optimum: what a price would do if demand were a constant stream without gangs, and supply divisible.

Values are LogNormal(ln median, sigma). At load L (GPU-hours wanted over GPU-hours there are) and share η of the
GPUs for sale, the price p serves the share η/L of demand, P(value >= p) = η/L, and nobody is served below p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class FluidMarket:
    """LogNormal values of this median (micro-USD per GPU-hour, as all prices here) and sigma; GPUs for sale."""

    median_micro_usd: float
    sigma: float
    sold_gpus: float

    def price(self, wanted_gpus: float) -> float:
        """The clearing price at this demand; 0 if there is enough for all."""
        if wanted_gpus <= self.sold_gpus:
            return 0.0
        return self.median_micro_usd * math.exp(self.sigma * self._score(wanted_gpus))

    def welfare_micro_usd_per_hour(self, wanted_gpus: float) -> float:
        """Value of all that is served: wanted · E[value; value >= price]."""
        mean = self.median_micro_usd * math.exp(self.sigma**2 / 2)
        if wanted_gpus <= self.sold_gpus:
            return wanted_gpus * mean
        return wanted_gpus * mean * _NORMAL.cdf(self.sigma - self._score(wanted_gpus))

    def _score(self, wanted_gpus: float) -> float:
        return _NORMAL.inv_cdf(1.0 - self.sold_gpus / wanted_gpus)
