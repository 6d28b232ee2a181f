"""What the market remembers of the oracle: the last snapshot, and the history of prices."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.market.events import PricesPublished

Int = NDArray[np.int64]
MarketName = tuple[str, str, str]
COLUMNS = ("posted", "floor", "cap", "long_run", "clearing", "volatility", "frozen")
POSTED, FLOOR, CAP, LONG_RUN, CLEARING, VOLATILITY, FROZEN = range(len(COLUMNS))
HIDDEN = -1
"""A clearing price that too few tenants set to be shown."""


@dataclass(frozen=True, slots=True)
class PricePoint:
    """Prices of all markets at one epoch. `columns`: as in the event, unpacked by `columns_of`."""

    epoch: int
    taken_at_us: int
    price_snapshot_id: str
    markets: list[MarketName]
    columns: bytes


@dataclass(slots=True)
class OracleState:
    """The last epoch, nothing before the first one; `volatility_ppb` by market, where it is not 0."""

    epoch: int = 0
    taken_at_us: int = 0
    price_snapshot_id: str = ""
    snapshot: bytes = b""
    spread_factor: float = 0.0
    history_kept_us: int = 0
    volatility_ppb: dict[MarketName, int] = field(default_factory=dict)
    interruptible: dict[MarketName, int] = field(default_factory=dict)
    """Prices of interruptible GPUs, micro-USD per GPU-hour."""
    history: deque[PricePoint] = field(default_factory=deque)

    def facts(self) -> tuple[object, ...]:
        """Everything in it, for a hash."""
        named = (self.epoch, self.taken_at_us, self.price_snapshot_id, self.snapshot, self.spread_factor)
        kept = (self.history_kept_us, sorted(self.volatility_ppb.items()))
        return *named, *kept, sorted(self.interruptible.items()), list(self.history)

    def publish(self, event: PricesPublished, columns: Int) -> None:
        """Take over an epoch; `columns`: of the event, unpacked."""
        self.epoch, self.taken_at_us = event.epoch, event.taken_at_us
        self.price_snapshot_id, self.snapshot = event.price_snapshot_id, event.snapshot
        self.spread_factor = event.spread_factor
        self.history_kept_us = event.history_kept_us
        markets = event.markets
        if self.history and self.history[-1].markets == markets:
            markets = self.history[-1].markets  # one list for all epochs between two loads
        volatility = zip(markets, columns[VOLATILITY].tolist(), strict=True)
        self.volatility_ppb = {market: sigma for market, sigma in volatility if sigma}
        if event.interruptible:
            prices = np.frombuffer(zlib.decompress(event.interruptible), dtype="<i8")
            self.interruptible |= zip(markets, prices.tolist(), strict=True)
        self.history.append(
            PricePoint(event.epoch, event.taken_at_us, event.price_snapshot_id, markets, event.columns)
        )

    def forget(self, now_us: int) -> None:
        """Drop history beyond its retention; the last epoch stays."""
        while len(self.history) > 1 and self.history[0].taken_at_us < now_us - self.history_kept_us:
            self.history.popleft()


def columns_of(packed: bytes, markets: int) -> Int:
    """(7, markets) int64 in the order of COLUMNS."""
    flat = np.frombuffer(zlib.decompress(packed), dtype="<i8")
    return flat.astype(np.int64).reshape(len(COLUMNS), markets)


def packed(columns: Int) -> bytes:
    """The bytes of `columns_of`."""
    return zlib.compress(columns.astype("<i8").tobytes(), 1)
