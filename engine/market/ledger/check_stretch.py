"""What GPUs cost over a stretch of a lease's seconds, by the checker's own reckoning: hour by hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.market.lease_terms import Profile

HOUR_S = 3_600


def half_up(cost: int) -> int:
    """Micro-USD · seconds / hour as whole micro-dollars."""
    return (2 * cost + HOUR_S) // (2 * HOUR_S)


@dataclass(slots=True)
class Stretch:
    """[from_s, to_s) of a lease: so many GPUs at some prices, or along curves from second `curve_from_s` of them.

    `hourly`: price of all its GPUs in each hour of the curves; made when it is first asked for.
    """

    from_s: int
    to_s: int
    gpus: Sequence[int]
    prices: Sequence[int]
    profile: Profile | None = None
    curve_from_s: int = 0
    hourly: list[int] = field(default_factory=list)
    gpu_milli: int = 1_000
    """Thousandths of its only GPU that are paid for; prices are theirs, the profile's those of the whole."""

    def left(self, at_s: int) -> int:
        """What the seconds from one on cost, micro-USD · seconds / hour."""
        first = max(at_s, self.from_s)
        if first >= self.to_s:
            return 0
        if self.profile is None:
            rate = sum(count * price for count, price in zip(self.gpus, self.prices, strict=True))
            return rate * (self.to_s - first)
        offset = self.curve_from_s - self.from_s
        return self._until(self.to_s + offset) - self._until(first + offset)

    def keep(self, gpus: Sequence[int]) -> Stretch:
        """The same with other GPUs in its rows."""
        return replace(self, gpus=gpus, hourly=[])

    def _until(self, second: int) -> int:
        if not self.hourly:
            self.hourly = [0, *self._prices().cumsum().tolist()]
        hour, rest = divmod(second, HOUR_S)
        whole = self.hourly[hour] * HOUR_S
        whole += rest and (self.hourly[hour + 1] - self.hourly[hour]) * rest
        return -(-whole * self.gpu_milli // 1_000)

    def _prices(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Of each hour: the higher of ask and curve, summed over the GPUs."""
        profile = self.profile
        assert profile is not None
        asks = np.frombuffer(profile.asks_micro_usd_per_gpu_hour, dtype="<i8").tolist()
        curves = np.frombuffer(profile.curve_of_node, dtype="<i4").tolist()
        alike = Counter[tuple[int, int]]()
        for curve, ask, count in zip(curves, asks, self.gpus, strict=True):
            alike[curve, ask] += count
        last_s = self.to_s - self.from_s + self.curve_from_s
        hours = np.arange(-(-last_s // HOUR_S))
        total = np.zeros(hours.size, dtype=np.int64)
        for (curve, ask), count in alike.items():
            posted, long_run = profile.curves[curve]
            exact = long_run + (posted - long_run) * 0.5 ** (hours / profile.half_life_h)
            total += count * np.maximum(ask, np.floor(exact + 0.5).astype(np.int64))
        return total
