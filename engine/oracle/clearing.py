"""The clearing price of one market: where the dual is least (DESIGN, section 3.1).

    D(p) = Σ_bids max(0, value − p)·hours + Σ_supply max(0, p − ask)·hours,   p >= 0

D is convex and piecewise linear, so its least value is reached at 0, at a value or at an ask. The minimisers are
an interval: its lower end is what one more GPU-hour would be worth (p−), its upper end what one fewer would cost
(p+). The clearing price is the lower end. `engine.oracle.joint_clearing` does the same for all markets at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Reason(StrEnum):
    """What a clearing price rests on."""

    DEMAND = "DEMAND"
    """The value of a bid that may use the market: GPUs are scarce."""
    ASK = "ASK"
    """An ask of the market's own supply: the last supplier needed sets it."""
    SUBSTITUTE = "SUBSTITUTE"
    """A bid or an ask of another market that the same buyers may use."""
    INHERITED = "INHERITED"
    """No trade here; the price of the next lower tier of the same model and region."""
    NO_TRADE = "NO_TRADE"
    """Nobody bids: the price is zero, asks and floors decide."""


@dataclass(frozen=True, slots=True)
class Clearing:
    """One market cleared. Prices are micro-USD per GPU-hour.

    `price` is p* = p−, the smallest minimiser; `upper` is p+, None if no higher price is too high (no supply).
    `traded_gpu_hours` is the most that can trade at p*, `dual_micro_usd` is D(p*), the greatest possible welfare.
    """

    price_micro_usd_per_gpu_hour: int
    upper_micro_usd_per_gpu_hour: int | None
    reason: Reason
    traded_gpu_hours: float
    dual_micro_usd: float


def clear_one(
    value_micro_usd_per_gpu_hour: ArrayLike,
    gpu_hours: ArrayLike,
    ask_micro_usd_per_gpu_hour: ArrayLike,
    supply_gpu_hours: ArrayLike,
) -> Clearing:
    """Clear one market of bids (value, GPU-hours) and supply (ask, GPU-hours); any of them may be empty.

    Values and asks are non-negative integers; hours are non-negative, of any numeric dtype, and summed in it: give
    whole GPU-seconds if ties must be exact. The order of the entries does not matter. O(n log n).
    """
    bids = _Book.of(value_micro_usd_per_gpu_hour, gpu_hours)
    supply = _Book.of(ask_micro_usd_per_gpu_hour, supply_gpu_hours)
    points = np.concatenate((np.zeros(1, dtype=np.int64), supply.price, bids.price))
    price = int(points[bids.total - bids.up_to(points) <= supply.up_to(points)].min())
    wanted = bids.total - bids.below(points) >= supply.below(points)
    return Clearing(
        price_micro_usd_per_gpu_hour=price,
        upper_micro_usd_per_gpu_hour=int(points[wanted].max()) if supply.total > 0 else None,
        reason=Reason.ASK if supply.has(price) else Reason.DEMAND if bids.has(price) else Reason.NO_TRADE,
        traded_gpu_hours=float(min(bids.total - bids.below(price), supply.up_to(price))),
        dual_micro_usd=dual_one(
            price, value_micro_usd_per_gpu_hour, gpu_hours, ask_micro_usd_per_gpu_hour, supply_gpu_hours
        ),
    )


def dual_one(
    price_micro_usd_per_gpu_hour: float,
    value_micro_usd_per_gpu_hour: ArrayLike,
    gpu_hours: ArrayLike,
    ask_micro_usd_per_gpu_hour: ArrayLike,
    supply_gpu_hours: ArrayLike,
) -> float:
    """D at any price, micro-USD: what no allocation of the same bids and supply can exceed in welfare."""
    surplus = np.asarray(value_micro_usd_per_gpu_hour, dtype=float) - price_micro_usd_per_gpu_hour
    rent = price_micro_usd_per_gpu_hour - np.asarray(ask_micro_usd_per_gpu_hour, dtype=float)
    buyers = np.maximum(surplus, 0.0) * np.asarray(gpu_hours, dtype=float)
    sellers = np.maximum(rent, 0.0) * np.asarray(supply_gpu_hours, dtype=float)
    return float(buyers.sum() + sellers.sum())


@dataclass(frozen=True, slots=True)
class _Book:
    """Sorted prices (n,), and the running sum of their hours, (n + 1,)."""

    price: NDArray[np.int64]
    hours: NDArray[Any]

    @classmethod
    def of(cls, price: ArrayLike, gpu_hours: ArrayLike) -> _Book:
        given = np.asarray(price, dtype=np.int64)
        order = np.argsort(given, kind="stable")
        hours = np.asarray(gpu_hours)[order]
        return cls(given[order], np.concatenate((np.zeros(1, dtype=hours.dtype), np.cumsum(hours))))

    @property
    def total(self) -> Any:
        return self.hours[-1]

    def up_to(self, price: Any) -> Any:
        """Hours at prices <= `price`."""
        return self.hours[np.searchsorted(self.price, price, side="right")]

    def below(self, price: Any) -> Any:
        """Hours at prices < `price`."""
        return self.hours[np.searchsorted(self.price, price, side="left")]

    def has(self, price: int) -> bool:
        """Whether any hours stand at exactly this price."""
        return bool(self.up_to(price) > self.below(price))
