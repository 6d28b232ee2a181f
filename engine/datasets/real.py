"""The world of public data: node shapes, prices, places, round trips and arrivals that were measured.

MEASURED: GPU models and counts of nodes (openb, PAI); prices (offers of 2026, Prime's snapshots); sites and
RTTs (cloud regions with Skyplane's pings, cities with WonderNetwork's); arrivals, sizes and durations (ITP,
Philly). DRAWN: which supplier has which node where, trust, networks, occupation (`facilities`, `nodes`), and
the constraints and price limits of requests (`requests`).

The traces' models are partly hidden (G2, G3, MISC) or no longer offered (P100). Such nodes keep their shape and
get a model drawn from the offers of 2026, each model as often as it is offered: this is how H100, H200, B200 or
RTX 4090 come in. An ask is a drawn observation (spot or firm) of the model at its tier × LogNormal(0, 0.08);
where the model has no observation at the tier, one of another tier × the ratio of the tiers' reference prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from engine.datasets.arrivals import merged, window
from engine.datasets.city_pings import city_pings
from engine.datasets.cloud_regions import cloud_sites
from engine.datasets.draws import FloatArray, IntArray, choose, lognormal, stream
from engine.datasets.facilities import Facilities, draw_facilities
from engine.datasets.gpu_models import GPU_MODELS, MODEL_INDEX
from engine.datasets.gpu_names import canonical_name
from engine.datasets.itp import itp_arrivals
from engine.datasets.lots import DrawKinds, Lots, draw_lots
from engine.datasets.measured_rtt import possible
from engine.datasets.nodes import fleet_frame, lot_tiers
from engine.datasets.offers import offers
from engine.datasets.openb import openb_nodes
from engine.datasets.pai import pai_nodes
from engine.datasets.philly import philly_arrivals
from engine.datasets.prime import prime_prices
from engine.datasets.reference_prices import TIER_FACTOR_PERMILLE
from engine.datasets.regions import REGIONS, nearest_regions
from engine.datasets.requests import requests_frame
from engine.datasets.sites import SITES_SCHEMA, site_count
from engine.datasets.skyplane import skyplane_rtt
from engine.datasets.synthetic import require_positive
from engine.domain.tiers import SecurityTier

LOT_ASK_SIGMA = 0.08
CLOUD_SITE_WEIGHT, SITE_WEIGHT_SIGMA = 3.0, 0.8
ITP_SHARE = 0.8
"""Of the requests; Philly gives the rest."""


@dataclass(frozen=True, slots=True)
class World:
    """A fleet and the RTTs measured between sites (of the fleet and others where clients may be)."""

    fleet: pl.DataFrame
    rtt: pl.DataFrame


def real_world(data_dir: Path, gpus: int, seed: int) -> World:
    """A fleet of exactly `gpus` GPUs and the measured RTTs; same arguments and files, same bytes."""
    require_positive("gpus", gpus)
    every_site, rtt = _places(data_dir, stream(seed, "real sites"))
    chosen = _some_sites(every_site, site_count(gpus, every_site.height), stream(seed, "real choice"))
    prices = pl.concat([offers(data_dir), prime_prices(data_dir)])
    facilities = draw_facilities(chosen["weight"].to_numpy(), stream(seed, "facilities"))
    lots = draw_lots(facilities, gpus, _node_lists(data_dir, prices), stream(seed, "lots"))
    asks = _lot_asks_micro_usd(prices, facilities, lots, stream(seed, "asks"))
    return World(fleet_frame(chosen, facilities, lots, asks, stream(seed, "nodes")), rtt)


def real_requests(data_dir: Path, fleet: pl.DataFrame, count: int, seed: int, load: float | None) -> pl.DataFrame:
    """`count` requests for a fleet in REQUESTS_SCHEMA: arrivals of ITP and Philly, all else drawn (`requests`).

    A window of consecutive jobs of each trace is taken, four of ITP to one of Philly, both moved to start
    together. `load` as in `engine.datasets.load`; without it sizes are the traces' own.
    """
    rng = stream(seed, "arrivals")
    from_itp = round(count * ITP_SHARE)
    arrivals = merged(
        [
            window(itp_arrivals(data_dir), from_itp, rng),
            window(philly_arrivals(data_dir), count - from_itp, rng),
        ]
    )
    return requests_frame(arrivals, fleet, seed, load)


def _places(data_dir: Path, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All sites in SITES_SCHEMA, and the measured RTTs between them that are physically possible."""
    cities = city_pings(data_dir)
    places = pl.concat([cloud_sites(data_dir), cities.sites])
    home = nearest_regions(
        places["country"].to_list(), places["latitude"].to_numpy(), places["longitude"].to_numpy()
    )
    is_cloud = ~places["site_id"].str.starts_with("city:").to_numpy()
    weight = np.where(is_cloud, CLOUD_SITE_WEIGHT, 1.0) * lognormal(rng, SITE_WEIGHT_SIGMA, places.height)
    sites = places.with_columns(
        pl.Series("region", [REGIONS[index].name for index in home]), pl.Series("weight", weight)
    ).select(list(SITES_SCHEMA))
    return sites, possible(pl.concat([skyplane_rtt(data_dir), cities.rtt]), sites)


def _some_sites(sites: pl.DataFrame, count: int, rng: np.random.Generator) -> pl.DataFrame:
    """Part of the sites for a small fleet, the heavier the likelier (exponential race)."""
    arrival = rng.exponential(size=sites.height) / sites["weight"].to_numpy()
    return sites[np.sort(np.argsort(arrival, kind="stable")[:count])]


def _node_lists(data_dir: Path, prices: pl.DataFrame) -> DrawKinds:
    """Draws rows of the node lists by their GPUs, and a model of the offers where the row's has no price."""
    rows = pl.concat([openb_nodes(data_dir), pai_nodes(data_dir)])
    offered = set(prices["gpu_model"])
    named = [canonical_name(name) for name in rows["source_model"]]
    model = np.array([MODEL_INDEX[name] if name and name in offered else -1 for name in named], dtype=np.int64)
    gpu_count = rows["gpu_count"].to_numpy()
    offers_of_model = _offers_of_models(prices)

    def draw(rng: np.random.Generator, count: int) -> tuple[IntArray, IntArray]:
        row = choose(rng, gpu_count.astype(np.float64), count)
        redrawn = choose(rng, offers_of_model, count)
        return np.where(model[row] < 0, redrawn, model[row]), gpu_count[row]

    return draw


def _offers_of_models(prices: pl.DataFrame) -> FloatArray:
    index = prices["gpu_model"].replace_strict(MODEL_INDEX, return_dtype=pl.Int64).to_numpy()
    return np.bincount(index, minlength=len(GPU_MODELS)).astype(np.float64)


def _lot_asks_micro_usd(
    prices: pl.DataFrame, facilities: Facilities, lots: Lots, rng: np.random.Generator
) -> FloatArray:
    tier = lot_tiers(facilities, lots)
    observed = np.zeros(lots.model.size)
    level = rng.random(lots.model.size)
    for model in np.unique(lots.model):
        of_model = prices.filter(pl.col("gpu_model") == GPU_MODELS[model].name)
        for rank in SecurityTier:
            mine = (lots.model == model) & (tier == rank)
            usd = _observations(of_model, rank)
            observed[mine] = usd[(level[mine] * usd.size).astype(np.int64)]
    noise = facilities.price_level[lots.facility] * lognormal(rng, LOT_ASK_SIGMA, lots.model.size)
    return observed * noise * 1_000_000


def _observations(of_model: pl.DataFrame, tier: SecurityTier) -> FloatArray:
    """Prices of one model at a tier, sorted, USD; of all tiers, moved by the tier factors, if it has none."""
    at_tier = of_model.filter(pl.col("tier") == int(tier))
    if at_tier.height:
        return at_tier["usd_per_gpu_hour"].sort().to_numpy()
    factor = {int(rank): permille for rank, permille in TIER_FACTOR_PERMILLE.items()}
    moved = pl.col("usd_per_gpu_hour") * factor[int(tier)] / pl.col("tier").replace_strict(factor)
    return of_model.select(moved.sort()).to_series().to_numpy()
