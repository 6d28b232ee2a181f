"""Stocks: what a fleet has on sale, grouped so that a request can be drawn that its home stock could serve.

A stock is the READY nodes of one model that share a key: site and supplier, or one fabric. Constraints of a
request are drawn around a home stock, so that each request alone is sane: a gang bound to one site has a site
with as many free GPUs, in whole replicas, as it wants, if the fleet has one at all. Together the requests may
still want more than there is; that is the planner's problem.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from engine.datasets.draws import FloatArray, IntArray

REPLICA_SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Stocks:
    """Columns, one entry a stock."""

    node: IntArray
    """Row in the fleet of the node with the most free GPUs (the first such): it stands for the stock."""
    weight: FloatArray
    """How often the stock is somebody's home: its GPUs × the popularity of its region."""
    capacity: IntArray
    """Free GPUs in whole replicas: a row a stock, a column each of REPLICA_SIZES."""

    @property
    def count(self) -> int:
        """Number of stocks."""
        return int(self.node.size)


def stocks_by(fleet: pl.DataFrame, keys: list[str], region_popularity: dict[str, float]) -> Stocks:
    """Group the READY nodes of a fleet by model and `keys`; nodes where a key is null are left out."""
    ready = fleet.with_row_index("row").filter(
        pl.col("state") == "READY", *(pl.col(k).is_not_null() for k in keys)
    )
    free = pl.col("gpu_free")
    grouped = ready.group_by("gpu_model", *keys, maintain_order=True).agg(
        pl.col("row").get(free.arg_max()),
        (pl.col("gpu_count").sum() * pl.col("region").first().replace_strict(region_popularity)).alias("weight"),
        *((free // size * size).sum().alias(f"replicas_of_{size}") for size in REPLICA_SIZES),
    )
    return Stocks(
        node=grouped["row"].cast(pl.Int64).to_numpy(),
        weight=grouped["weight"].cast(pl.Float64).to_numpy(),
        capacity=grouped.select(pl.col("^replicas_of_.*$")).cast(pl.Int64).to_numpy(),
    )


def draw_stocks(
    rng: np.random.Generator, stocks: Stocks, gpus_needed: IntArray, gpus_per_node: IntArray
) -> IntArray:
    """Draw a stock for each request, by weight among those that hold `gpus_needed`, else the largest."""
    drawn = np.zeros(gpus_needed.size, dtype=np.int64)
    level = rng.random(gpus_needed.size)
    for column, size in enumerate(REPLICA_SIZES):
        mine = gpus_per_node == size
        drawn[mine] = _draw_from_largest(stocks, stocks.capacity[:, column], gpus_needed[mine], level[mine])
    return drawn


def _draw_from_largest(stocks: Stocks, capacity: IntArray, needed: IntArray, level: FloatArray) -> IntArray:
    """Stocks that hold enough are a prefix when sorted by capacity: draw within its running weight."""
    order = np.argsort(-capacity, kind="stable")
    fitting = np.searchsorted(-capacity[order], -needed, side="right")
    running = np.cumsum(stocks.weight[order])
    last = np.maximum(fitting, 1) - 1
    drawn = np.searchsorted(running, level * running[last], side="right")
    return np.asarray(order[np.minimum(drawn, last)], dtype=np.int64)
