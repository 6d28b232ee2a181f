"""Cluster requests around arrivals: everything that no trace carries is drawn, seeded, and said so here.

From the arrivals: `submitted_at_us`, `duration_s` and `gpu_count` (scaled if a load is given).
Drawn, and nothing else is known of them: tenant, models, replicas, location, client, RTT limits, tier,
certifications, connectivity, interconnect, fabric, reliability, suppliers, price limit, interruptibility.

Each request has a home stock (`stocks`, `drafts`), drawn by size and by the popularity of its region, and asks
for nothing that its home lacks; one in forty is wishful and asks for a confidential node with a TEE wherever
its home is, since "no" is an answer that a market gives daily.

A price limit is reference price × LogNormal(0, 0.5), the reference being that of the home's model at the tier
asked for, VERIFIED if none is.

FACT: 11 % are interruptible, the share of spot jobs in Alibaba's trace of 2026 (see `gpu_models`); 30 % name
more than one model, about the share of openb's pods that name alternatives. ASSUMED: the other shares.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.datasets.arrivals import Arrivals
from engine.datasets.drafts import Drafts, draw_drafts
from engine.datasets.draws import IntArray, choose, lognormal, stream, zipf_weights
from engine.datasets.gpu_models import GPU_MODELS, MODEL_INDEX
from engine.datasets.load import scaled_sizes
from engine.datasets.reference_prices import reference_price_micro_usd
from engine.datasets.request_places import place_columns
from engine.datasets.request_trust import trust_columns
from engine.domain.tables import REQUESTS_SCHEMA
from engine.domain.tiers import SecurityTier

ALTERNATIVES_SHARES = (0.70, 0.20, 0.10)
"""Of requests, by the number of further models they accept."""
ANY_MODEL_SHARE = 0.02
MIXED_SHARE = 0.2
INTERRUPTIBLE_SHARE = 0.11
PRICE_LIMIT_SIGMA = 0.5
REQUESTS_PER_TENANT = 40
REQUEST_ID_DIGITS, TENANT_ID_DIGITS = 6, 4


def requests_frame(arrivals: Arrivals, fleet: pl.DataFrame, seed: int, load: float | None) -> pl.DataFrame:
    """Requests in REQUESTS_SCHEMA for a fleet, one an arrival; same arguments, same bytes."""
    if arrivals.count == 0:
        return pl.DataFrame(schema=REQUESTS_SCHEMA)
    gpu_count = _sizes(arrivals, fleet, seed, load)
    drafts = draw_drafts(gpu_count, fleet, stream(seed, "request drafts"))
    trust = trust_columns(drafts, fleet, stream(seed, "request trust"))
    columns = {
        **_identity_columns(arrivals, drafts, seed),
        **_model_columns(drafts, stream(seed, "request models")),
        **place_columns(drafts, fleet, stream(seed, "request places")),
        **trust,
        **_price_columns(drafts, trust["min_security_tier"], stream(seed, "request prices")),
    }
    nothing = pl.Series([None] * arrivals.count, dtype=pl.Int64)
    columns |= dict.fromkeys(("gpu_milli", "cpu_milli", "memory_mib"), nothing)
    return pl.DataFrame([columns[name].alias(name).cast(dtype) for name, dtype in REQUESTS_SCHEMA.items()])


def free_gpus(fleet: pl.DataFrame) -> int:
    """Free GPUs of READY nodes: what a load of 1 asks for."""
    return int(fleet.filter(pl.col("state") == "READY")["gpu_free"].sum())


def _sizes(arrivals: Arrivals, fleet: pl.DataFrame, seed: int, load: float | None) -> IntArray:
    if load is None:
        return arrivals.gpu_count
    return scaled_sizes(arrivals.gpu_count, load * free_gpus(fleet), stream(seed, "request load"))


def _identity_columns(arrivals: Arrivals, drafts: Drafts, seed: int) -> dict[str, pl.Series]:
    tenants = max(arrivals.count // REQUESTS_PER_TENANT, 3)
    tenant = choose(stream(seed, "tenants"), zipf_weights(tenants, 1.1, 1.0), arrivals.count)
    return {
        "request_id": pl.Series([f"r{number:0{REQUEST_ID_DIGITS}d}" for number in range(arrivals.count)]),
        "tenant_id": pl.Series([f"t{number:0{TENANT_ID_DIGITS}d}" for number in tenant]),
        "submitted_at_us": pl.Series(arrivals.submitted_at_us),
        "duration_s": pl.Series(arrivals.duration_s),
        "gpu_count": pl.Series(drafts.gpu_count),
        "gpus_per_node": pl.Series(drafts.gpus_per_node),
    }


def _model_columns(drafts: Drafts, rng: np.random.Generator) -> dict[str, pl.Series]:
    """The home's model and up to two that its tenant would also take; a few take any."""
    further = choose(rng, ALTERNATIVES_SHARES, drafts.count)
    takes_any = rng.random(drafts.count) < ANY_MODEL_SHARE
    lists = [
        None if any_model else [model, *_alternatives(model)[:extra]]
        for model, extra, any_model in zip(drafts.home["gpu_model"], further, takes_any, strict=True)
    ]
    several = np.array([models is None or len(models) > 1 for models in lists])
    mixes = several & drafts.is_gang & (rng.random(drafts.count) < MIXED_SHARE)
    return {
        "gpu_models": pl.Series(lists, dtype=pl.List(pl.String)),
        "allow_mixed_models": pl.Series(mixes),
    }


def _alternatives(model: str) -> tuple[str, ...]:
    index = MODEL_INDEX.get(model)
    return () if index is None else GPU_MODELS[index].alternatives


def _price_columns(drafts: Drafts, tier: pl.Series, rng: np.random.Generator) -> dict[str, pl.Series]:
    names = tier.fill_null(SecurityTier.VERIFIED.name)
    asks = drafts.home["ask_micro_usd_per_gpu_hour"]
    # A fleet from elsewhere may hold models without a reference price: then the home's ask stands in.
    reference = np.array(
        [
            reference_price_micro_usd(model, SecurityTier[name]) or ask
            for model, name, ask in zip(drafts.home["gpu_model"], names, asks, strict=True)
        ],
        dtype=np.float64,
    )
    limit = np.rint(reference * lognormal(rng, PRICE_LIMIT_SIGMA, drafts.count)).astype(np.int64)
    return {
        "max_price_micro_usd_per_gpu_hour": pl.Series(np.maximum(limit, 1)),
        "interruptible": pl.Series(rng.random(drafts.count) < INTERRUPTIBLE_SHARE),
    }
