"""Sites: the places where suppliers keep nodes, as one frame of SITES_SCHEMA.

`sites_of` reads them back from a fleet, so that whoever holds only a fleet can still ask where things are.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from engine.datasets.draws import FloatArray, IntArray, choose
from engine.datasets.geodesy import great_circle_km
from engine.datasets.regions import REGIONS

SITES_SCHEMA: dict[str, pl.DataType] = {
    "site_id": pl.String(),
    "region": pl.String(),
    "country": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
    "weight": pl.Float64(),
}
"""`weight` is the relative size of the supply at the site; the other columns are as in FLEET_SCHEMA."""

SITES_AT_A_MILLION_GPUS = 360
FEWEST_SITES = 4
SPREAD_DEGREES = 0.6


def site_count(gpus: int, most: int = SITES_AT_A_MILLION_GPUS) -> int:
    """How many sites a fleet of this size has: grows with the square root, so that sites grow too."""
    wanted = round(SITES_AT_A_MILLION_GPUS * math.sqrt(gpus / 1_000_000))
    return min(max(wanted, FEWEST_SITES), most)


def scattered_sites(rng: np.random.Generator, count: int) -> pl.DataFrame:
    """Invented sites around the places of REGIONS, within some 100 km; every region has one if count allows."""
    region = _regions_of_sites(rng, count)
    numbers = _running_number(region)
    return pl.DataFrame(
        {
            "site_id": [f"{REGIONS[r].name}-{n:02d}" for r, n in zip(region, numbers, strict=True)],
            "region": [REGIONS[r].name for r in region],
            "country": [REGIONS[r].country for r in region],
            "latitude": _scattered([REGIONS[r].latitude for r in region], rng),
            "longitude": _scattered([REGIONS[r].longitude for r in region], rng),
            "weight": rng.lognormal(0.0, 0.8, count),
        },
        schema=SITES_SCHEMA,
    )


def _regions_of_sites(rng: np.random.Generator, count: int) -> IntArray:
    weights = np.array([region.weight for region in REGIONS])
    largest_first = np.argsort(-weights, kind="stable")[:count]
    more = choose(rng, weights, count - largest_first.size)
    return np.sort(np.concatenate([largest_first, more]))


def _running_number(sorted_keys: IntArray) -> IntArray:
    first = np.searchsorted(sorted_keys, sorted_keys, side="left")
    return np.arange(1, sorted_keys.size + 1) - first


def _scattered(degrees: list[float], rng: np.random.Generator) -> FloatArray:
    offset = rng.uniform(-SPREAD_DEGREES, SPREAD_DEGREES, len(degrees))
    return np.round(np.asarray(degrees, dtype=np.float64) + offset, 4)


def sites_of(fleet: pl.DataFrame) -> pl.DataFrame:
    """The sites of a fleet, sorted by id; the weight of a site is its GPUs."""
    return (
        fleet.group_by("site_id")
        .agg(
            pl.col("region", "country", "latitude", "longitude").first(),
            pl.col("gpu_count").sum().cast(pl.Float64).alias("weight"),
        )
        .sort("site_id")
        .select(list(SITES_SCHEMA))
    )


def distances_km(sites: pl.DataFrame, first: IntArray, second: IntArray) -> FloatArray:
    """Great-circle distances between the sites at two arrays of row numbers."""
    latitude, longitude = sites["latitude"].to_numpy(), sites["longitude"].to_numpy()
    return great_circle_km(latitude[first], longitude[first], latitude[second], longitude[second])
