"""Where a request wants its nodes: regions, countries, sites, what it excludes, its client, RTT limits.

ASSUMED: all shares. Whatever is drawn admits the home stock of the request: wanted places include its home's,
excluded ones never, and the limit to the client is the first of a ladder that the home keeps with some slack.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from engine.datasets.drafts import Drafts, GangKind
from engine.datasets.draws import BoolArray, FloatArray, IntArray, choose
from engine.datasets.geodesy import great_circle_km, unmeasured_rtt_ms
from engine.datasets.sites import sites_of

NO_PLACE, REGIONS, COUNTRIES, SITES, REGIONS_AND_COUNTRIES = range(5)
PLACE_SHARES = (0.50, 0.26, 0.14, 0.07, 0.03)
EXCLUDED_REGIONS_SHARE, EXCLUDED_COUNTRIES_SHARE, EXCLUDED_SITES_SHARE = 0.04, 0.06, 0.03
MOST_OTHERS = 3
CLIENT_SHARE, CLIENT_AT_SITE_SHARE, CLIENT_NEAR_HOME_SHARE = 0.16, 0.45, 0.7
CLIENT_SCATTER_DEGREES = 2.0
SLACK_AT_SITE, SLACK_AT_COORDINATES = 1.5, 1.05
"""A client at a site is reached by the measured RTT, which may be longer than the formula says."""
CLIENT_LIMITS_MS = np.array([5.0, 10.0, 20.0, 30.0, 50.0, 80.0, 120.0, 200.0, 300.0, 450.0])
TIGHT_LIMITS_MS = np.array([0.0, 0.5, 1.0, 2.0])
SPREAD_LIMITS_MS = np.array([5.0, 20.0, 60.0, 120.0])
SPREAD_LIMIT_SHARE = 0.08

Lists = list[list[str] | None]


def place_columns(drafts: Drafts, fleet: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Series]:
    """All columns of REQUESTS_SCHEMA that speak of places and times between them."""
    sites = sites_of(fleet)
    return {
        **_wanted_and_excluded(drafts, sites, rng),
        **_client(drafts, sites, rng),
        "max_cluster_rtt_ms": _cluster_limits(drafts, rng),
    }


def nullable(values: ArrayLike, keep: BoolArray) -> pl.Series:
    """A series of `values` with null where `keep` is false."""
    return pl.Series(np.asarray(values)).set(~pl.Series(keep), None)


def _wanted_and_excluded(drafts: Drafts, sites: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Series]:
    wants = np.where(drafts.kind == GangKind.SITE, SITES, choose(rng, PLACE_SHARES, drafts.count))
    # A gang bound to one site names that site alone.
    others = np.where(drafts.kind == GangKind.SITE, 0, rng.integers(0, MOST_OTHERS + 1, drafts.count))
    columns = {}
    for plural, column, wanted_by, excluded_share in (
        ("regions", "region", (REGIONS, REGIONS_AND_COUNTRIES), EXCLUDED_REGIONS_SHARE),
        ("countries", "country", (COUNTRIES, REGIONS_AND_COUNTRIES), EXCLUDED_COUNTRIES_SHARE),
        ("sites", "site_id", (SITES,), EXCLUDED_SITES_SHARE),
    ):
        home, names = drafts.home[column].to_list(), sites[column].unique().sort().to_list()
        wanted = with_others(rng, home, names, others, np.isin(wants, wanted_by))
        excludes = rng.random(drafts.count) < excluded_share
        columns[plural] = pl.Series(wanted, dtype=pl.List(pl.String))
        columns[f"excluded_{plural}"] = pl.Series(
            others_than(rng, home, names, wanted, excludes), dtype=pl.List(pl.String)
        )
    return columns


def with_others(
    rng: np.random.Generator, home: list[str], names: list[str], others: IntArray, keep: BoolArray
) -> Lists:
    """For each kept row its home's name and up to `others` further ones, sorted; None elsewhere."""
    drawn = rng.integers(0, len(names), (len(home), MOST_OTHERS))
    return [
        sorted({mine, *(names[i] for i in row[:extra])}) if kept else None
        for mine, row, extra, kept in zip(home, drawn, others, keep, strict=True)
    ]


def others_than(
    rng: np.random.Generator, home: list[str], names: list[str], wanted: Lists, keep: BoolArray
) -> Lists:
    """For each kept row one or two names that are neither its home's nor wanted; None elsewhere."""
    drawn = rng.integers(0, len(names), (len(home), 2))
    return [
        sorted({names[i] for i in row} - {mine, *(wish or ())}) or None if kept else None
        for mine, row, wish, kept in zip(home, drawn, wanted, keep, strict=True)
    ]


def _client(drafts: Drafts, sites: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Series]:
    """A client at a site or at coordinates, and the RTT limit to it."""
    has_client = rng.random(drafts.count) < CLIENT_SHARE
    at_site = rng.random(drafts.count) < CLIENT_AT_SITE_SHARE
    near_home = rng.random(drafts.count) < CLIENT_NEAR_HOME_SHARE
    elsewhere = sites[choose(rng, sites["weight"].to_numpy(), drafts.count)]
    site = np.where(near_home, drafts.home["site_id"].to_numpy(), elsewhere["site_id"].to_numpy())
    latitude, longitude = (
        np.where(near_home, drafts.home[axis].to_numpy(), elsewhere[axis].to_numpy())
        + np.where(at_site, 0.0, rng.normal(0.0, CLIENT_SCATTER_DEGREES, drafts.count))
        for axis in ("latitude", "longitude")
    )
    latitude, longitude = np.clip(latitude, -85.0, 85.0), (longitude + 180.0) % 360.0 - 180.0
    rtt_ms = _home_rtt_ms(drafts.home, latitude, longitude)
    slack = np.where(at_site, SLACK_AT_SITE, SLACK_AT_COORDINATES)
    limit_ms = CLIENT_LIMITS_MS[
        np.minimum(np.searchsorted(CLIENT_LIMITS_MS, rtt_ms * slack), CLIENT_LIMITS_MS.size - 1)
    ]
    return {
        "client_latitude": nullable(np.round(latitude, 4), has_client & ~at_site),
        "client_longitude": nullable(np.round(longitude, 4), has_client & ~at_site),
        "client_site": nullable(site.tolist(), has_client & at_site),
        "max_client_rtt_ms": nullable(limit_ms, has_client),
    }


def _home_rtt_ms(home: pl.DataFrame, latitude: FloatArray, longitude: FloatArray) -> FloatArray:
    home_latitude, home_longitude = home["latitude"].to_numpy(), home["longitude"].to_numpy()
    return unmeasured_rtt_ms(great_circle_km(latitude, longitude, home_latitude, home_longitude))


def _cluster_limits(drafts: Drafts, rng: np.random.Generator) -> pl.Series:
    """A limit of 0 to 2 ms for every tight gang, a wider one for some spread gangs."""
    tight = drafts.kind == GangKind.TIGHT
    limited = (drafts.kind == GangKind.SPREAD) & (rng.random(drafts.count) < SPREAD_LIMIT_SHARE)
    limit_ms = np.where(
        tight,
        TIGHT_LIMITS_MS[rng.integers(0, TIGHT_LIMITS_MS.size, drafts.count)],
        SPREAD_LIMITS_MS[rng.integers(0, SPREAD_LIMITS_MS.size, drafts.count)],
    )
    return nullable(limit_ms, tight | (limited & drafts.is_gang))
