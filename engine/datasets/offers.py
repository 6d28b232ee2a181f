"""310 GPU offers of 21 providers, 2026-05-24, with the model names made canonical.

Source: tardellirs/gpu-pricing @ 8f09a68, MIT; collected by hand by its author.

The security tier of an offer is OUR reading of who offers it: marketplaces of other people's machines and
RunPod's community cloud are COMMUNITY, RunPod's secure cloud and providers with own data centres are SECURE,
the rest VERIFIED, offers named "CC" CONFIDENTIAL.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.gpu_names import canonical_name
from engine.datasets.sources import read_records, require
from engine.domain.tiers import SecurityTier

OFFERS_FILE = "gpu_offers_2026_05/offerings.json"
MARKETPLACES = ("akash", "salad", "spheron", "tensordock", "vast-ai")
OWN_DATA_CENTRES = ("coreweave", "digitalocean", "genesis-cloud", "hyperstack", "lambda", "verda", "vultr")


def offers(data_dir: Path) -> pl.DataFrame:
    """Offers of known models: `gpu_model`, `tier` (rank of SecurityTier), `is_spot`, `usd_per_gpu_hour`."""
    path = data_dir / OFFERS_FILE
    frame = read_records(
        path,
        {
            "provider_id": pl.String(),
            "gpu_model": pl.String(),
            "vram_gb": pl.Float64(),
            "tier": pl.String(),
            "is_spot": pl.Boolean(),
            "price_usd_hour": pl.Float64(),
        },
    )
    priced = pl.col("price_usd_hour").is_finite() & (pl.col("price_usd_hour") > 0)
    require(frame, path, "price_usd_hour", priced, "is not a positive price")
    named = pl.Series(
        [canonical_name(*row) for row in frame.select("gpu_model", "vram_gb").iter_rows()], dtype=pl.String
    )
    return frame.select(
        named.alias("gpu_model"), _tier().alias("tier"), "is_spot", usd_per_gpu_hour="price_usd_hour"
    ).filter(pl.col("gpu_model").is_not_null())


def _tier() -> pl.Expr:
    community = pl.col("provider_id").is_in(MARKETPLACES) | (pl.col("tier") == "community")
    secure = pl.col("provider_id").is_in(OWN_DATA_CENTRES) | (pl.col("tier") == "secure")
    return (
        pl.when(pl.col("gpu_model").str.ends_with(" CC"))
        .then(int(SecurityTier.CONFIDENTIAL))
        .when(community)
        .then(int(SecurityTier.COMMUNITY))
        .when(secure)
        .then(int(SecurityTier.SECURE))
        .otherwise(int(SecurityTier.VERIFIED))
        .cast(pl.Int64)
    )
