"""The lines of an extension: as those of a quote (`engine.market.charges`), for seconds that begin later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.limits import MILLI_OF_GPU
from engine.domain.money import rounded_micro_usd, share_of_gpu
from engine.market.charges import GPU_HOURS, LOCALITY, SET_BY, per_hour
from engine.market.inventory import Inventory
from engine.market.lease_terms import PriceLine, Terms
from engine.market.periods import curve_costs

Int = NDArray[np.int64]
LOCKED = "LOCKED"


class Part(NamedTuple):
    """GPUs of one market in [from_s, to_s) of the lease. `cost`: micro-USD · seconds / hour."""

    market: int
    set_by: str
    kind: str
    gpus: int
    cost: int
    from_s: int
    to_s: int


def itemised(
    inventory: Inventory, parts: Iterable[Part], before: int, gpu_milli: int = MILLI_OF_GPU
) -> list[PriceLine]:
    """Lines whose amounts are the differences of the rounded running sum, which begins at `before`.

    `gpu_milli`: the part of the GPU that is charged of costs of the whole.
    """

    def rounded(cost: int) -> int:
        return rounded_micro_usd(share_of_gpu(cost, gpu_milli))

    lines, running = [], before
    for part in parts:
        amount = rounded(running + part.cost) - rounded(running)
        running += part.cost
        names = inventory.market_names(int(inventory.markets[part.market]))
        rate = per_hour(amount, part.from_s, part.to_s)
        lines.append(PriceLine(*names, part.set_by, part.gpus, rate, amount, part.kind, part.from_s, part.to_s))
    return lines


def locked_parts(inventory: Inventory, standing: Terms, band: tuple[int, int]) -> list[Part]:
    """A part a market, at the prices of the nodes."""
    markets, row = np.unique(inventory.market[standing.node_numbers], return_inverse=True)
    rates = np.zeros(markets.size, dtype=np.int64)
    np.add.at(rates, row, standing.gpus_per_node * standing.prices)
    gpus = np.bincount(row, weights=standing.gpus_per_node).astype(np.int64)
    columns = zip(markets.tolist(), rates.tolist(), gpus.tolist(), strict=True)
    seconds = band[1] - band[0]
    return [Part(market, LOCKED, GPU_HOURS, count, rate * seconds, *band) for market, rate, count in columns]


def current_parts(inventory: Inventory, standing: Terms, edges: Sequence[int], left_s: int) -> list[Part]:
    """Parts by market, band and what sets the price. `left_s`: second of the curves of now at the first edge."""
    seen = inventory.glance(standing.node_numbers)
    pairs, row = np.unique(np.stack((seen.market, seen.ask_micro_usd)), axis=1, return_inverse=True)
    gpus = np.bincount(row.reshape(-1), weights=standing.gpus_per_node).astype(np.int64)
    market, ask = (np.ascontiguousarray(column) for column in pairs)
    seconds = [edge - edges[0] + left_s for edge in edges]
    cheapest = inventory.cheapest_for(market, seconds[-1])

    def costs(markets: Int, asks: Int) -> NDArray[np.object_]:
        curves, row = inventory.rows_of(markets, max(seconds[-1], 1))
        return curve_costs(curves, row, asks, seconds).exact

    charged, at_curve = costs(market, ask), costs(market, np.zeros_like(ask))
    base = np.minimum(charged, costs(cheapest, ask))
    at_ask = ask.astype(object)[:, None] * np.diff(np.array(seconds, dtype=object))[None, :]
    set_by = np.select([charged == at_curve, charged == at_ask], [0, 1], 2)
    sums: dict[tuple[int, int, int], list[int]] = {}
    for pair in range(market.size):
        for band, code in enumerate(set_by[pair].tolist()):
            each = sums.setdefault((int(market[pair]), band, code), [0, 0, 0])
            each[0] += int(gpus[pair])
            each[1] += int(gpus[pair]) * int(base[pair, band])
            each[2] += int(gpus[pair]) * int(charged[pair, band] - base[pair, band])
    bands, parts = list(pairwise(edges)), []
    for (number, band, code), (count, cost, premium) in sorted(sums.items()):
        parts.append(Part(number, SET_BY[code], GPU_HOURS, count, cost, *bands[band]))
        if premium:
            parts.append(Part(number, SET_BY[code], LOCALITY, count, premium, *bands[band]))
    return parts
