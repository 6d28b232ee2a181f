"""What the oracle publishes: the prices of all markets at one epoch, named by a hash of their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from engine.oracle.clearing import Reason
from engine.oracle.forward import ForwardCurve
from engine.oracle.health import Health
from engine.oracle.markets import Market
from engine.oracle.parameters import OracleParameters


class Limit(StrEnum):
    """What keeps the posted price from going further towards the clearing price."""

    NONE = "NONE"
    RATE = "RATE"
    """The most it may change per hour."""
    FLOOR = "FLOOR"
    CAP = "CAP"
    FROZEN = "FROZEN"
    """Unhealthy: see the failure reasons."""
    OPENING = "OPENING"
    """The market is new and opens at its reference, or at the asks if there is none."""


@dataclass(frozen=True, slots=True)
class MarketPrice:
    """One market at one epoch; prices in micro-USD per GPU-hour.

    [clearing, upper] is the exact bracket [p−, p+], with p* = p−; it can hold a rival's bid: to tenants,
    show `shown_bracket`. `upper` is None if no price is too high. `tenants`: how many bid here.
    """

    market: Market
    clearing_micro_usd_per_gpu_hour: int
    upper_micro_usd_per_gpu_hour: int | None
    posted_micro_usd_per_gpu_hour: int
    floor_micro_usd_per_gpu_hour: int
    cap_micro_usd_per_gpu_hour: int
    long_run_micro_usd_per_gpu_hour: int
    reason: Reason
    limit: Limit
    tenants: int
    health: Health

    def curve(self, parameters: OracleParameters) -> ForwardCurve:
        """The forward curve from here."""
        return ForwardCurve.of(
            self.posted_micro_usd_per_gpu_hour, self.long_run_micro_usd_per_gpu_hour, parameters
        )

    def shown_bracket(self, parameters: OracleParameters) -> tuple[int, int | None] | None:
        """The bracket rounded outwards to the grid; None where fewer than `min_tenants_shown` tenants set it."""
        if self.tenants < parameters.min_tenants_shown:
            return None
        step, upper = parameters.shown_step_micro_usd, self.upper_micro_usd_per_gpu_hour
        low = self.clearing_micro_usd_per_gpu_hour // step * step
        return low, None if upper is None else -(-upper // step) * step


@dataclass(frozen=True, slots=True)
class PriceSnapshot:
    """All markets, sorted, at one epoch. Same id, same content. Build with `snapshot_of`."""

    price_snapshot_id: str
    epoch: int
    taken_at_us: int
    markets: tuple[MarketPrice, ...]


def snapshot_of(epoch: int, taken_at_us: int, markets: tuple[MarketPrice, ...]) -> PriceSnapshot:
    """Name the content: "prices-" and 16 hexadecimal digits of its SHA-256."""
    content = msgspec.msgpack.encode((epoch, taken_at_us, markets))
    return PriceSnapshot(f"prices-{hashlib.sha256(content).hexdigest()[:16]}", epoch, taken_at_us, markets)
