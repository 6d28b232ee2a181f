"""Where each request may run: location lists, exclusions and the client's RTT limit as one set of sites.

Decided for distinct combinations, and there for all sites at once. A node qualifies if any of the location lists
that are given names its place; an RTT limit holds if rtt <= limit + 1e-6.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.planning.codes import distinct, distinct_sets, is_given, known_codes, named
from engine.planning.fleet_codes import FleetCodes
from solvers.distances import RTT_TOLERANCE_MS

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]

WANTED = ("regions", "countries", "sites")
EXCLUDED = tuple(f"excluded_{column}" for column in WANTED)
CLIENT = ("client_latitude", "client_longitude", "client_site", "max_client_rtt_ms")
CHUNK_ROWS = 8_192
"""Combinations decided at once: bounds the memory of what is between lists and sets."""


def site_sets(requests: pl.DataFrame, fleet: FleetCodes, rtt: pl.DataFrame) -> tuple[Flags, Int]:
    """The distinct sets, shape (sets, sites), and each request's place among them."""
    # Clients without a limit, and lists that hold nothing, constrain nothing: they tell no requests apart.
    limited = pl.col("max_client_rtt_ms").is_not_null()
    columns = [pl.when(limited).then(pl.col(column)).alias(column) for column in CLIENT]
    places, place = distinct(requests.with_columns(columns), [*WANTED, *EXCLUDED, *CLIENT])
    sets = np.empty((places.height, len(fleet.sites)), dtype=bool)
    for start in range(0, places.height, CHUNK_ROWS):
        chunk = places.slice(start, CHUNK_ROWS)
        sets[start : start + CHUNK_ROWS] = _named_sites(chunk, fleet)
    _keep_near_sites(sets, places, fleet, rtt)
    sets, order = distinct_sets(sets)
    return sets, order[place]


def _named_sites(places: pl.DataFrame, fleet: FleetCodes) -> Flags:
    unlisted = ~np.logical_or.reduce([is_given(places[column]) for column in WANTED])
    wanted = _in_any_list(places, WANTED, fleet) | unlisted[:, None]
    return np.asarray(wanted & ~_in_any_list(places, EXCLUDED, fleet))


def _in_any_list(places: pl.DataFrame, columns: tuple[str, ...], fleet: FleetCodes) -> Flags:
    regions, countries, sites = (places[column] for column in columns)
    return np.asarray(
        named(regions, fleet.regions).take(fleet.site_region, axis=1)
        | named(countries, fleet.countries).take(fleet.site_country, axis=1)
        | named(sites, fleet.sites)
    )


def _keep_near_sites(sets: Flags, places: pl.DataFrame, fleet: FleetCodes, rtt: pl.DataFrame) -> None:
    """Take from each set (mutated) the sites beyond its client's limit; one row of RTTs per distinct client."""
    clients, client = distinct(places, CLIENT[:3])
    limits_ms = places["max_client_rtt_ms"].fill_null(np.inf).to_numpy() + RTT_TOLERANCE_MS
    ordered = np.argsort(client, kind="stable")
    ends = np.searchsorted(client[ordered], np.arange(clients.height + 1))
    strangers = _measured_from_strangers(clients["client_site"], fleet, rtt)
    codes = known_codes(clients["client_site"], fleet.sites).tolist()
    for number, (latitude, longitude, name) in enumerate(clients.iter_rows()):
        if name is None and latitude is None:
            continue
        if latitude is not None:
            row = fleet.distances.from_position(latitude, longitude)
        else:
            row = fleet.distances.from_site(codes[number]) if codes[number] >= 0 else strangers[name]
        mine = ordered[ends[number] : ends[number + 1]]
        sets[mine] &= row <= limits_ms[mine, None]


def _measured_from_strangers(
    names: pl.Series, fleet: FleetCodes, rtt: pl.DataFrame
) -> dict[str, NDArray[np.float64]]:
    """RTT in ms from named sites outside the fleet to all of its sites, by name; of a repeated pair the larger."""
    strangers = names.filter(known_codes(names, fleet.sites) < 0).drop_nulls().to_list()
    rows = {name: np.full(len(fleet.sites), np.nan) for name in strangers}
    for one, other in (("site_a", "site_b"), ("site_b", "site_a")) if rows else ():
        measured = rtt.filter(pl.col(one).is_in(strangers))
        sites, rtts_ms = known_codes(measured[other], fleet.sites).tolist(), measured["rtt_ms"].to_list()
        for name, site, rtt_ms in zip(measured[one].to_list(), sites, rtts_ms, strict=True):
            if site >= 0:
                rows[name][site] = np.fmax(rows[name][site], rtt_ms)
    return rows
