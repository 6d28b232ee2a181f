"""Sites at 241 cities, and the pings between them.

Source: Consensys/wittgenstein @ fe0414c, Apache-2.0, from wondernetwork.com, 2018-11-10. Average RTT, as for
the clouds.

TRAP: pages name a city as "Salem United States, North America", folders as "La+Ceiba". TRAP: the coordinates of
some cities are those of a namesake (Cromwell in New Zealand, not in Connecticut), so that pings between them
would outrun light. Each page says how many km it is to every other; a city whose coordinates contradict the
median page by more than 100 km is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from engine.datasets.countries import COUNTRY_CODES
from engine.datasets.measured_rtt import larger_direction
from engine.datasets.sites import distances_km
from engine.datasets.sources import read_csv, read_parquet, reject, require

FOLDER = "wondernetwork_pings_2018"
CITIES_FILE, PINGS_FILE = f"{FOLDER}/cities.csv", f"{FOLDER}/city_pings.parquet"
LARGEST_ERROR_KM = 100.0
_CONTINENT = r", (North America|South America|Eurasia|Africa|Oceania)$"


@dataclass(frozen=True, slots=True)
class CityPings:
    """Cities as sites, and what was measured between them."""

    sites: pl.DataFrame
    """`site_id` (`city:ho-chi-minh-city`), `country`, `latitude`, `longitude`."""
    rtt: pl.DataFrame
    """RTT_SCHEMA; the larger of two directions."""


def city_pings(data_dir: Path) -> CityPings:
    """Read cities and pings; cities whose coordinates are disproved are left out of both."""
    cities, pings = _cities(data_dir / CITIES_FILE), _pings(data_dir / PINGS_FILE)
    sites = _with_country(cities, pings, data_dir / PINGS_FILE)
    between = pings.join(_rows(sites, "a"), left_on="from", right_on="city").join(
        _rows(sites, "b"), left_on="to", right_on="city"
    )
    right = sites.filter(~sites["city"].is_in(_misplaced(sites, between).implode()))
    rtt = larger_direction(between.select("site_id_a", "site_id_b", "rtt_ms"))
    kept = pl.col("site_a").is_in(right["site_id"].implode()) & pl.col("site_b").is_in(right["site_id"].implode())
    return CityPings(right.drop("city"), rtt.filter(kept))


def _cities(path: Path) -> pl.DataFrame:
    cities = read_csv(path, {"city": pl.String(), "Lat": pl.Float64(), "Long": pl.Float64()})
    require(cities, path, "city", pl.col("city").is_unique(), "is not the only city of that name")
    require(cities, path, "Lat", pl.col("Lat").is_between(-90, 90), "is not a latitude")
    require(cities, path, "Long", pl.col("Long").is_between(-180, 180), "is not a longitude")
    return cities.rename({"Lat": "latitude", "Long": "longitude"})


def _pings(path: Path) -> pl.DataFrame:
    """`from`, `to_page` (the city as its page is titled, without continent), `km` as the page says, `rtt_ms`."""
    numbers = {"hidden": pl.Float64(), "hidden.1": pl.Float64()}
    frame = read_parquet(path, {"from_city_dir": pl.String(), "City": pl.String(), **numbers})
    require(frame, path, "hidden.1", pl.col("hidden.1") > 0, "is not a positive RTT")
    require(frame, path, "hidden", pl.col("hidden") >= 0, "is not a distance")
    return frame.select(
        pl.col("from_city_dir").str.replace_all("+", " ", literal=True).alias("from"),
        pl.col("City").str.replace(_CONTINENT, "").alias("to_page"),
        km="hidden",
        rtt_ms="hidden.1",
    ).with_columns(_city_of_page().alias("to"))


def _country_pattern() -> str:
    return f" ({'|'.join(COUNTRY_CODES)})$"


def _city_of_page() -> pl.Expr:
    return pl.col("to_page").str.replace(_country_pattern(), "")


def _with_country(cities: pl.DataFrame, pings: pl.DataFrame, path: Path) -> pl.DataFrame:
    country = pl.col("to_page").str.extract(_country_pattern()).replace_strict(COUNTRY_CODES, default=None)
    countries = pings.select("to", country.alias("country")).unique(subset="to", keep="first")
    sites = cities.join(countries, left_on="city", right_on="to", how="left", maintain_order="left")
    reject(sites["country"].is_null(), sites["city"], path, "City", "has no page that names its country")
    name = pl.col("city").str.to_lowercase().str.replace_all(" ", "-", literal=True)
    return sites.select("city", pl.format("city:{}", name).alias("site_id"), "country", "latitude", "longitude")


def _rows(sites: pl.DataFrame, suffix: str) -> pl.DataFrame:
    row = np.arange(sites.height, dtype=np.int64)
    return sites.select(
        "city", pl.col("site_id").alias(f"site_id_{suffix}"), pl.Series(row).alias(f"row_{suffix}")
    )


def _misplaced(sites: pl.DataFrame, between: pl.DataFrame) -> pl.Series:
    km = distances_km(sites, between["row_a"].to_numpy(), between["row_b"].to_numpy())
    error = between.with_columns((pl.Series(km) - pl.col("km")).abs().alias("error_km"))
    median = error.group_by("from").agg(pl.col("error_km").median())
    return median.filter(pl.col("error_km") > LARGEST_ERROR_KM)["from"].sort()
