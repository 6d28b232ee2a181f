"""Tables of measured RTTs: one row a pair, the larger of two directions, and nothing faster than light."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.datasets.geodesy import least_rtt_ms
from engine.datasets.sites import distances_km
from engine.domain.tables import RTT_SCHEMA


def larger_direction(measured: pl.DataFrame) -> pl.DataFrame:
    """From columns (from, to, ms) to RTT_SCHEMA, sorted; a pair measured one way only keeps that value."""
    source, target, rtt = measured.columns
    pair = measured.filter(pl.col(source) != pl.col(target)).select(
        pl.min_horizontal(source, target).alias("site_a"),
        pl.max_horizontal(source, target).alias("site_b"),
        pl.col(rtt).alias("rtt_ms"),
    )
    largest = pair.group_by("site_a", "site_b").agg(pl.col("rtt_ms").max())
    return largest.sort("site_a", "site_b").select(pl.col(name).cast(dtype) for name, dtype in RTT_SCHEMA.items())


def possible(rtt: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """The rows between known sites that light could have travelled.

    The others are disproved: some site is not where its coordinates say, and the formula is the better guess.
    """
    row = pl.DataFrame({"site": sites["site_id"], "row": np.arange(sites.height, dtype=np.int64)})
    known = rtt.join(row.rename({"site": "site_a", "row": "a"}), on="site_a", maintain_order="left").join(
        row.rename({"site": "site_b", "row": "b"}), on="site_b", maintain_order="left"
    )
    km = distances_km(sites, known["a"].to_numpy(), known["b"].to_numpy())
    kept = pl.Series(known["rtt_ms"].to_numpy() >= least_rtt_ms(km))
    return known.filter(kept).select(list(RTT_SCHEMA))
