"""Measured RTT between 69 regions of AWS, Azure and Google Cloud.

Source: skyplane-project/skyplane @ 87b2047, Apache-2.0: `ping` in both directions of all 2,346 pairs, 2022. We
take the average, not the minimum: a limit should hold for the traffic a tenant sees. Only premium-tier pairs
are read (the standard tier was measured for Google alone), and Google's zones count as their region.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.measured_rtt import larger_direction
from engine.datasets.sources import read_parquet, require

LATENCY_FILE = "skyplane_net_2022/latency.parquet"


def skyplane_rtt(data_dir: Path) -> pl.DataFrame:
    """`site_a`, `site_b`, `rtt_ms` with the site ids of `cloud_regions`; the larger of two directions."""
    path = data_dir / LATENCY_FILE
    text = ("src_region", "dst_region", "src_tier", "dst_tier")
    frame = read_parquet(path, {**dict.fromkeys(text, pl.String()), "avg_rtt": pl.Float64()})
    rtt = pl.col("avg_rtt")
    require(frame, path, "avg_rtt", rtt.is_finite() & (rtt > 0), "is not a positive RTT")
    premium = frame.filter((pl.col("src_tier") == "PREMIUM") & (pl.col("dst_tier") == "PREMIUM"))
    return larger_direction(premium.select(_site("src_region"), _site("dst_region"), "avg_rtt"))


def _site(column: str) -> pl.Expr:
    """`gcp:us-east4-a` is in the region `gcp:us-east4`; the others have no zone."""
    zone = pl.col(column).str.starts_with("gcp:")
    return pl.when(zone).then(pl.col(column).str.replace(r"-[a-z]$", "")).otherwise(pl.col(column)).alias(column)
