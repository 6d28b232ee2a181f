"""A fleet as the solver takes it: columns of codes, with the names that the codes stand for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.tiers import ConnectivityTier, Interconnect, NodeState, SecurityTier
from engine.market.fleet_columns import Vocabulary, vocabulary
from engine.planning.codes import distinct, known_codes, named
from solvers.distances import Distances
from solvers.pools import NodeColumns

Int = NDArray[np.int64]
SITE_COLUMNS = ("site_id", "region", "country", "latitude", "longitude")
"""What all nodes of a site share."""


@dataclass(frozen=True, slots=True)
class FleetCodes:
    """`site_region`, `site_country` (sites,): codes of what all nodes of a site share; `ready` (nodes,)."""

    models: Vocabulary
    suppliers: Vocabulary
    certifications: Vocabulary
    regions: Vocabulary
    countries: Vocabulary
    sites: Vocabulary
    site_region: Int
    site_country: Int
    nodes: NodeColumns
    distances: Distances
    ready: NDArray[np.bool_]


def encode_fleet(fleet: pl.DataFrame, rtt: pl.DataFrame) -> FleetCodes:
    """Codes of checked frames; nodes keep the order of the fleet, names are sorted."""
    places = fleet.select(SITE_COLUMNS).unique("site_id", keep="any").sort("site_id")
    sites = Vocabulary(places["site_id"].to_list())
    models, suppliers, regions, countries = (
        vocabulary(fleet[column]) for column in ("gpu_model", "supplier_id", "region", "country")
    )
    certifications = vocabulary(fleet["certifications"].explode())
    return FleetCodes(
        models=models,
        suppliers=suppliers,
        certifications=certifications,
        regions=regions,
        countries=countries,
        sites=sites,
        site_region=regions.encode(places["region"]),
        site_country=countries.encode(places["country"]),
        nodes=_nodes(fleet, models, suppliers, certifications, sites),
        distances=_distances(places, sites, rtt),
        ready=(fleet["state"] == NodeState.READY.name).to_numpy(),
    )


def grades(column: pl.Series, kinds: type[IntEnum]) -> Int:
    """Ranks of a column of grades; 0, which everybody has, for null."""
    return np.maximum(Vocabulary(list(kinds.__members__)).encode(column), 0)


def certification_masks(frame: pl.DataFrame, known: Vocabulary) -> Int:
    """Bit masks of the column `certifications`; one that is not known sets the bit after all that are."""
    lists, place = distinct(frame, ["certifications"])
    held = named(lists["certifications"], known).astype(np.int64)
    unique = lists["certifications"].list.n_unique().fill_null(0).to_numpy()
    stranger = (unique > held.sum(axis=1)).astype(np.int64)
    masks = (held << np.arange(len(known))).sum(axis=1) | stranger << len(known)
    return np.asarray(masks, dtype=np.int64)[place]


def _nodes(
    fleet: pl.DataFrame,
    models: Vocabulary,
    suppliers: Vocabulary,
    certifications: Vocabulary,
    sites: Vocabulary,
) -> NodeColumns:
    rank = np.empty(fleet.height, dtype=np.int64)
    rank[fleet["node_id"].arg_sort().to_numpy()] = np.arange(fleet.height)
    return NodeColumns(
        model=models.encode(fleet["gpu_model"]),
        site=sites.encode(fleet["site_id"]),
        tier=grades(fleet["security_tier"], SecurityTier),
        certifications=certification_masks(fleet, certifications),
        connectivity=grades(fleet["connectivity_tier"], ConnectivityTier),
        interconnect=grades(fleet["interconnect"], Interconnect),
        fabric=vocabulary(fleet["fabric_id"]).encode(fleet["fabric_id"]),
        supplier=suppliers.encode(fleet["supplier_id"]),
        gpu_count=fleet["gpu_count"].to_numpy().astype(np.int64),
        ask_micro_usd=fleet["ask_micro_usd_per_gpu_hour"].to_numpy().astype(np.int64),
        reliability=fleet["reliability"].to_numpy().astype(np.float64),
        rank=rank,
    )


def _distances(places: pl.DataFrame, sites: Vocabulary, rtt: pl.DataFrame) -> Distances:
    return Distances(
        places["latitude"].to_numpy().astype(np.float64),
        places["longitude"].to_numpy().astype(np.float64),
        known_codes(rtt["site_a"], sites),
        known_codes(rtt["site_b"], sites),
        rtt["rtt_ms"].to_numpy().astype(np.float64),
    )
