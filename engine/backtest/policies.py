"""Who sets the posted price, once per epoch: a fixed price, an occupancy controller, the oracle.

All three post before the epoch's arrivals are known, and see the same market.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from engine.oracle.parameters import OracleParameters
from engine.oracle.posted import next_posted

NO_CAP = 10**11
"""Micro-USD per GPU-hour: above every price that the engine accepts at its border."""


class Seen(NamedTuple):
    """What a policy may look at when an epoch starts: p* of the last window, and the GPUs. Prices: micro-USD per
    GPU-hour; none may be posted below the floor.
    """

    posted: int
    clearing: int
    used_gpus: int
    supply_gpus: int
    floor: int


class Policy(Protocol):
    """Sets prices; keeps no state of its own."""

    def next_price(self, seen: Seen) -> int:
        """The price of the epoch that starts, micro-USD per GPU-hour."""
        ...


class FixedPrice(NamedTuple):
    """One price for ever."""

    price_micro_usd_per_gpu_hour: int

    def next_price(self, seen: Seen) -> int:
        """The same price, whatever is seen."""
        return self.price_micro_usd_per_gpu_hour


class OccupancyController(NamedTuple):
    """In the manner of EIP-1559: the price moves by gain · (utilisation − target)/target per epoch.

    It sees how full the market is, and no bid. At gain 12.5 % the price rises by at most 1.1 % per epoch at a
    target of 0.92, and falls by at most 12.5 %.
    """

    target: float
    gain: float = 0.125

    def next_price(self, seen: Seen) -> int:
        """The posted price, moved by how far utilisation is off its target."""
        utilisation = seen.used_gpus / max(seen.supply_gpus, 1)
        moved = seen.posted * (1.0 + self.gain * (utilisation - self.target) / self.target)
        return min(max(round(moved), seen.floor), NO_CAP)


class Oracle(NamedTuple):
    """The oracle's own smoothing and clip, towards the clearing price of the last window."""

    parameters: OracleParameters

    def next_price(self, seen: Seen) -> int:
        """`next_posted` of the engine, without a cap: what a scenario's demand is worth is no list price."""
        return next_posted(seen.posted, seen.clearing, seen.floor, NO_CAP, self.parameters)
