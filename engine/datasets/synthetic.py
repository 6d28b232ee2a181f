"""The seeded world that needs no data: `walras world` without `--real`, and the fleet of `make demo`.

Prices, node shapes and places are the facts of `gpu_models`, `reference_prices` and `regions`; the shares of
models, regions and tiers are assumed, and each module says where. Asks lie about the reference price of model
and tier times √(spot/firm) = 0.66: an ask is the least a supplier accepts, which is above what it takes for
spot and below what it lists on demand; the geometric mean of the two is our assumption.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.datasets.arrivals import synthetic_arrivals
from engine.datasets.draws import FloatArray, IntArray, choose, choose_by_row, lognormal, stream
from engine.datasets.facilities import Facilities, draw_facilities
from engine.datasets.geodesy import unmeasured_rtt_ms
from engine.datasets.gpu_models import GPU_MODELS
from engine.datasets.lots import Lots, draw_lots
from engine.datasets.nodes import fleet_frame, lot_tiers
from engine.datasets.reference_prices import SPOT_TO_FIRM, TIER_FACTOR_PERMILLE
from engine.datasets.requests import requests_frame
from engine.datasets.sites import distances_km, scattered_sites, site_count, sites_of
from engine.domain.errors import InvalidInput, Violation
from engine.domain.tables import RTT_SCHEMA
from engine.domain.tiers import SecurityTier

ASK_TO_REFERENCE = SPOT_TO_FIRM**0.5
LOT_ASK_SIGMA = 0.12
MEASURED_SHARE = 0.6
RTT_SIGMA = 0.12

_NODE_SHAPES = np.array([1, 2, 4, 8], dtype=np.int64)


def synthetic_fleet(gpus: int, seed: int) -> pl.DataFrame:
    """A fleet of exactly `gpus` GPUs in FLEET_SCHEMA; same arguments, same bytes."""
    require_positive("gpus", gpus)
    sites = scattered_sites(stream(seed, "sites"), site_count(gpus))
    facilities = draw_facilities(sites["weight"].to_numpy(), stream(seed, "facilities"))
    lots = draw_lots(facilities, gpus, draw_kinds, stream(seed, "lots"))
    asks = _lot_asks_micro_usd(facilities, lots, stream(seed, "asks"))
    return fleet_frame(sites, facilities, lots, asks, stream(seed, "nodes"))


def synthetic_rtt(fleet: pl.DataFrame, seed: int) -> pl.DataFrame:
    """RTTs in RTT_SCHEMA for a drawn share of the site pairs: the formula of the contract, with noise.

    The noise is lognormal about 1: real routes are up to a third longer or shorter than the fit.
    """
    sites = sites_of(fleet)
    rng = stream(seed, "rtt")
    first, second = np.triu_indices(sites.height, k=1)
    measured = rng.random(first.size) < MEASURED_SHARE
    first, second = first[measured].astype(np.int64), second[measured].astype(np.int64)
    rtt_ms = unmeasured_rtt_ms(distances_km(sites, first, second)) * lognormal(rng, RTT_SIGMA, first.size)
    site_a, site_b = sites["site_id"].gather(pl.Series(first)), sites["site_id"].gather(pl.Series(second))
    return pl.DataFrame({"site_a": site_a, "site_b": site_b, "rtt_ms": np.round(rtt_ms, 3)}, schema=RTT_SCHEMA)


def synthetic_requests(fleet: pl.DataFrame, count: int, seed: int, load: float | None = None) -> pl.DataFrame:
    """`count` requests of all constraint kinds for this fleet, in REQUESTS_SCHEMA.

    Everything is drawn: sizes and durations as in `arrivals`, constraints as in `requests`. With `load`,
    sizes are multiplied so that they sum to load × free GPUs of READY nodes (`load`).
    """
    return requests_frame(synthetic_arrivals(count, stream(seed, "arrivals")), fleet, seed, load)


def require_positive(name: str, value: int) -> None:
    """InvalidInput unless the argument is at least 1."""
    if value < 1:
        raise InvalidInput([Violation(name, f"must be at least 1, got {value}")])


def draw_kinds(rng: np.random.Generator, count: int) -> tuple[IntArray, IntArray]:
    """Models by their share of GPUs, node shapes by their share of the model's GPUs."""
    model = choose(rng, [model.share for model in GPU_MODELS], count)
    return model, _NODE_SHAPES[choose_by_row(rng, _shape_weights(), model)]


def _shape_weights() -> FloatArray:
    """GPUs (not nodes) of a model by shape: rows as GPU_MODELS, columns as _NODE_SHAPES."""
    weights = np.zeros((len(GPU_MODELS), _NODE_SHAPES.size))
    for row, model in enumerate(GPU_MODELS):
        for gpus, share_of_nodes in model.shapes:
            weights[row, int(np.searchsorted(_NODE_SHAPES, gpus))] = share_of_nodes * gpus
    return weights


def _lot_asks_micro_usd(facilities: Facilities, lots: Lots, rng: np.random.Generator) -> FloatArray:
    reference = np.array([model.reference_micro_usd for model in GPU_MODELS], dtype=np.float64)
    factor = np.array([TIER_FACTOR_PERMILLE[tier] for tier in SecurityTier]) / 1_000
    level = facilities.price_level[lots.facility] * lognormal(rng, LOT_ASK_SIGMA, lots.model.size)
    median = ASK_TO_REFERENCE * reference[lots.model] * factor[lot_tiers(facilities, lots)]
    return np.asarray(median * level, dtype=np.float64)
