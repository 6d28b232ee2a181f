"""What each placement is charged (docs/planning.md, rule 8), in integers.

Node j asks max(ask_j, ⌈p_j⌉). Where a request's bill would exceed gpu_count·max_price, the part above the asks is
scaled down, or, if even the asks exceed it, the asks are; each price is rounded down, so the bill keeps the cap. A
part of a GPU pays its share of all of these, rounded up: its price is that of the part, no more than the whole's.
Products pass 2^63 and are taken in 128 bits, never in floats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.planning.encode import Encoded
from solvers.planning.plan import Plan

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Charges:
    """`price_micro_usd` (rows of the plan,): per hour of a GPU, or of the part. The make-whole is what was taken
    off all prices.
    """

    price_micro_usd: Int
    make_whole_micro_usd_per_hour: int


def charge(encoded: Encoded, plan: Plan) -> Charges:
    """Prices of all rows of a plan."""
    asks = encoded.problem.nodes.ask_micro_usd[plan.node]
    listed = list_prices(asks, plan.node_price[plan.node])
    max_price = encoded.max_price_micro_usd[plan.request]
    part = encoded.problem.gangs.is_part(plan.request)
    asks, listed, max_price = (
        np.where(part, encoded.problem.gangs.money(plan.request, plan.gpus, price), price)
        for price in (asks, listed, max_price)
    )
    rows = pl.DataFrame(
        {"request": plan.request, "gpus": plan.gpus, "ask": asks, "listed": listed, "max_price": max_price}
    )
    priced = rows.with_columns(price=_price())
    taken_off = priced.select((pl.col("gpus").cast(pl.Int128) * (pl.col("listed") - pl.col("price"))).sum())
    return Charges(priced["price"].cast(pl.Int64).to_numpy(), taken_off.item())


def list_prices(ask_micro_usd: Int, shadow_price_micro_usd: NDArray[np.float64]) -> Int:
    """max(ask, ⌈p⌉), elementwise; a shadow price above 2^62 counts as that."""
    ceiling = np.minimum(np.ceil(shadow_price_micro_usd), 2.0**62)
    return np.maximum(ask_micro_usd, ceiling.astype(np.int64))


def _price() -> pl.Expr:
    gpus, ask, listed = (pl.col(name).cast(pl.Int128) for name in ("gpus", "ask", "listed"))
    asks, cap = _of_request(gpus * ask), _of_request(gpus * pl.col("max_price"))
    above_asks = _of_request(gpus * (listed - ask))
    return (
        pl.when(asks + above_asks <= cap)
        .then(listed)
        .when(asks <= cap)
        .then(ask + (listed - ask) * (cap - asks) // pl.max_horizontal(above_asks, 1))
        .otherwise(ask * cap // asks)
    )


def _of_request(money: pl.Expr) -> pl.Expr:
    return money.sum().over("request")
