"""Every number of the oracle that an operator may choose, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from engine.domain.errors import InvalidInput, Violation

HOUR_US = 3_600_000_000

_RANGES: dict[str, tuple[float, float]] = {
    "epoch_us": (1_000_000, 24 * HOUR_US),
    "window_s": (60, 30 * 86_400),
    "availability": (0.01, 1.0),
    "smoothing_weight": (1e-4, 1.0),
    "max_change_per_hour": (1e-3, 10.0),
    "forward_half_life_h": (0.1, 10_000.0),
    "long_run_half_life_h": (0.1, 100_000.0),
    "reserve_micro_usd_per_gpu_hour": (1_000, 10**9),
    "floor_share": (0.0, 1.0),
    "cap_share": (0.0, 100.0),
    "spread_factor": (0.0, 10.0),
    "network_fee_ppm": (0, 1_000_000),
    "quorum": (1, 100),
    "reference_max_age_us": (1, 366 * 24 * HOUR_US),
    "supply_max_age_us": (1, 24 * HOUR_US),
    "deviation_limit": (1e-3, 100.0),
    "concentration_limit": (0.0, 1.0),
    "wish_share": (0.0, 1.0),
    "min_tenants_shown": (1, 1_000),
    "shown_step_micro_usd": (1, 10**9),
    "history_retention_us": (0, 10 * 366 * 24 * HOUR_US),
}


@dataclass(frozen=True, slots=True)
class OracleParameters:
    """Settings of the oracle. One of each for all markets, so that dominance survives smoothing.

    InvalidInput lists every field that is out of range (inclusive), infinite or not a number.
    """

    epoch_us: int = 300_000_000
    """Microseconds between price snapshots, 1 s to 24 h."""
    window_s: int = 14_400
    """Seconds of arrivals that count as demand, 60 to 30 days. 4 h: the mean lease of the back-test."""
    availability: float = 0.92
    """η, share of READY GPUs that can be sold in a window, 0.01 to 1; the rest is lost to turnover and gangs."""
    smoothing_weight: float = 1 / 8
    """Part of the way to the clearing price that the posted price moves per epoch, 1e-4 to 1."""
    max_change_per_hour: float = 0.125
    """c: posted prices, floors and caps stay within a factor (1 + c)^±1 per hour, 0.001 to 10."""
    forward_half_life_h: float = 48.0
    """Hours after which half of the distance to the long-run price is left in the forward curve, 0.1 to 1e4."""
    long_run_half_life_h: float = 336.0
    """Hours after which the long-run price has halved its distance to the posted price, 0.1 to 1e5."""
    reserve_micro_usd_per_gpu_hour: int = 10_000
    """Least floor of any market, 1e3 to 1e9. A price below 1e3 could not move by whole micro-dollars."""
    floor_share: float = 0.3
    """Floor as a share of the reference median, 0 to 1."""
    cap_share: float = 1.0
    """Cap as a share of the reference median (an on-demand price), 0 to 100; at least `floor_share`."""
    spread_factor: float = 0.4
    """Spread of a held quote over σ·√TTL, 0 to 10. 0.4 ≈ 1/√(2π): an at-the-money option's price."""
    network_fee_ppm: int = 50_000
    """φ, parts per million of what is charged, inside the price, 0 to 1e6."""
    quorum: int = 3
    """Least number of usable reference sources, 1 to 100."""
    reference_max_age_us: int = 7 * 24 * HOUR_US
    """Age in microseconds at which a reference is stale, for sources that `source_max_age_us` does not name."""
    source_max_age_us: tuple[tuple[str, int], ...] = ()
    """(source, age in microseconds at which it is stale); each name once, ages 1 us to 366 days."""
    supply_max_age_us: int = 600_000_000
    """Age in microseconds at which the view of supply and demand is stale, 1 us to 24 h."""
    deviation_limit: float = 1.0
    """A source deviates if it is off the median by more than a factor 1 + this, 0.001 to 100."""
    concentration_limit: float = 0.5
    """Share of a market's demand or supply above which one tenant or owner raises an alarm, 0 to 1."""
    wish_share: float = 0.01
    """What one tenant asked for and did not lease counts as at most this share of what its markets can sell in a
    window, 0 to 1: asking is free, so that more would let anybody name a price (docs/manipulation.md).
    """
    min_tenants_shown: int = 3
    """Brackets and demand steps set by fewer tenants are hidden, 1 to 1,000."""
    shown_step_micro_usd: int = 10_000
    """Grid that brackets and demand steps are rounded to when shown, 1 to 1e9."""
    history_retention_us: int = 30 * 24 * HOUR_US
    """How long snapshots are kept, 0 to 10 years."""

    def __post_init__(self) -> None:
        violations = [_range_violation(name, getattr(self, name)) for name in _RANGES]
        violations += [
            _range_violation("reference_max_age_us", age, f"source_max_age_us[{source!r}]")
            for source, age in self.source_max_age_us
        ]
        if len(dict(self.source_max_age_us)) < len(self.source_max_age_us):
            violations.append(Violation("source_max_age_us", "names a source twice"))
        if not self.cap_share >= self.floor_share:
            violations.append(Violation("cap_share", "must be at least floor_share"))
        found = [each for each in violations if each is not None]
        if found:
            raise InvalidInput(found)

    @property
    def epoch_h(self) -> float:
        """Hours between snapshots."""
        return self.epoch_us / HOUR_US

    @property
    def max_epoch_factor(self) -> float:
        """(1 + c)^(hours per epoch): the factor within which a price moves per epoch."""
        return float((1.0 + self.max_change_per_hour) ** self.epoch_h)

    @property
    def long_run_weight(self) -> float:
        """Part of the way to the posted price that the long-run price moves per epoch."""
        return float(1.0 - 0.5 ** (self.epoch_h / self.long_run_half_life_h))

    def max_age_us(self, source: str) -> int:
        """Age at which a reference of this source is stale."""
        return dict(self.source_max_age_us).get(source, self.reference_max_age_us)


def _range_violation(name: str, value: float, shown: str | None = None) -> Violation | None:
    low, high = _RANGES[name]
    if isinstance(low, int) and not isinstance(value, int):
        return Violation(shown or name, "must be an integer")
    if not (math.isfinite(value) and low <= value <= high):
        return Violation(shown or name, f"must be between {low:g} and {high:g}, is {value}")
    return None


assert set(_RANGES) | {"source_max_age_us"} == {field.name for field in fields(OracleParameters)}
