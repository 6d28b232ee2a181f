"""Prime Intellect's aggregated market, a snapshot about every half hour from 2025-10-19 to 11-08.

Source: tugot17/gpu-price-tracker @ 718a831, MIT. It aggregates over providers, so its prices carry no security
tier; they count as VERIFIED, the middle of the list. Each GPU type gives three observations, the medians over
time of the quartiles, so that 651 snapshots of the same stable list do not outvote 310 offers.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.gpu_names import canonical_name
from engine.datasets.sources import read_parquet, require
from engine.domain.tiers import SecurityTier

SNAPSHOTS_FILE = "prime_gpu_market_2025/price_and_availability.parquet"
QUARTILES = ("price_stats.p25", "price_stats.median", "price_stats.p75")


def prime_prices(data_dir: Path) -> pl.DataFrame:
    """Observations with the columns of `offers`: three a GPU type, never spot."""
    path = data_dir / SNAPSHOTS_FILE
    columns = {"gpu_type": pl.String(), "socket_type": pl.String(), **dict.fromkeys(QUARTILES, pl.Float64())}
    frame = read_parquet(path, columns)
    for quartile in QUARTILES:
        require(frame, path, quartile, pl.col(quartile) > 0, "is not a positive price")
    medians = frame.group_by("gpu_type", "socket_type", maintain_order=True).agg(pl.col(QUARTILES).median())
    names = [_name(*row) for row in medians.select("gpu_type", "socket_type").iter_rows()]
    long = medians.with_columns(pl.Series("gpu_model", names, dtype=pl.String)).unpivot(
        QUARTILES, index="gpu_model", value_name="usd_per_gpu_hour"
    )
    return long.filter(pl.col("gpu_model").is_not_null()).select(
        "gpu_model",
        pl.lit(int(SecurityTier.VERIFIED), dtype=pl.Int64).alias("tier"),
        pl.lit(False).alias("is_spot"),
        "usd_per_gpu_hour",
    )


def _name(gpu_type: str, socket_type: str | None) -> str | None:
    """`H100_80GB` and `PCIe` make H100-PCIE; the memory is part of the type's name."""
    model, _, memory = gpu_type.partition("_")
    gigabytes = memory.removesuffix("GB")
    return canonical_name(f"{model} {socket_type or ''}", float(gigabytes) if gigabytes.isdecimal() else None)
