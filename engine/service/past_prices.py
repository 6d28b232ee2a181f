"""How posted prices moved over the last epochs: what the volatility is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.market.published import POSTED, MarketName, PricePoint, columns_of

Rows = NDArray[np.float64]


class Moves(NamedTuple):
    """Of some epochs with the same markets: the sum of the squares of the moves of log prices from epoch to epoch,
    and the last log prices, (markets,) each. `epochs`: how many there were.
    """

    squares: Rows
    last: Rows
    epochs: int


class PastPrices:
    """Log posted prices of past epochs; each is unpacked once."""

    def __init__(self) -> None:
        self._logs: dict[str, Rows] = {}

    def moves(self, names: list[MarketName], past: Sequence[PricePoint]) -> Moves:
        """Over those of `past` that have these markets."""
        lists = {id(point.markets): point.markets for point in past}  # epochs between two loads share one
        same = {key for key, markets in lists.items() if markets == names}
        known, self._logs = self._logs, {}
        for point in past:
            if id(point.markets) in same:
                name = point.price_snapshot_id
                self._logs[name] = known[name] if name in known else _log_posted(point)
        if not self._logs:
            return Moves(np.zeros(len(names)), np.zeros(len(names)), 0)
        rows = np.array(list(self._logs.values()))
        return Moves((np.diff(rows, axis=0) ** 2).sum(axis=0), rows[-1], len(rows))


def _log_posted(point: PricePoint) -> Rows:
    logs: Rows = np.log(columns_of(point.columns, len(point.markets))[POSTED].astype(float))
    return logs
