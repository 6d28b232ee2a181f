import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.datasets.arrivals import ITP_JOBS_BY_SIZE
from engine.datasets.gpu_models import GPU_MODELS, MODEL_INDEX, T4_SHAPES, V100_SHAPES
from engine.datasets.gpu_names import canonical_name
from engine.datasets.itp import itp_arrivals
from engine.datasets.offers import offers
from engine.datasets.openb import openb_nodes
from engine.datasets.pai import pai_nodes
from engine.datasets.prime import prime_prices
from engine.datasets.reference_prices import (
    REFERENCE_PRICE_MICRO_USD,
    SPOT_TO_FIRM,
    TIER_FACTOR_PERMILLE,
    reference_price_micro_usd,
)
from engine.datasets.regions import REGIONS
from engine.domain.money import micro_usd
from engine.domain.tiers import SecurityTier


def test_about_forty_models_with_unique_names_and_known_alternatives() -> None:
    assert 40 <= len(MODEL_INDEX) == len(GPU_MODELS) <= 50
    for model in GPU_MODELS:
        assert set(model.alternatives) <= set(MODEL_INDEX) - {model.name}
        assert sum(share for _, share in model.shapes) == pytest.approx(1.0)
        assert {gpus for gpus, _ in model.shapes} <= {1, 2, 4, 8}
        assert model.share > 0


@pytest.mark.parametrize("model", REFERENCE_PRICE_MICRO_USD)
def test_a_higher_tier_never_costs_less(model: str) -> None:
    prices = [reference_price_micro_usd(model, tier) or 0 for tier in SecurityTier]
    assert prices == sorted(prices)
    assert prices[0] > 0
    assert prices[SecurityTier.VERIFIED] == REFERENCE_PRICE_MICRO_USD[model]


def test_an_unknown_model_has_no_reference_price() -> None:
    assert reference_price_micro_usd("ABACUS", SecurityTier.SECURE) is None


def test_regions_are_unique_places_with_iso_countries() -> None:
    assert len({region.name for region in REGIONS}) == len(REGIONS)
    assert 60 <= len(REGIONS) < 80
    for region in REGIONS:
        assert len(region.country) == 2
        assert region.country.isupper()
        assert region.name.startswith(region.country.lower() + "-")


@pytest.mark.parametrize(
    ("source", "memory_gb", "canonical"),
    [
        ("NVIDIA A100 SXM4 80GB", 80, "A100-80GB"),
        ("A100 SXM", 80, "A100-80GB"),
        ("NVIDIA A100 PCIe", 40, "A100-40GB"),
        ("NVIDIA H100 PCIe NVLink", 80, "H100-PCIE"),
        ("NVIDIA H100 NVLink", 80, "H100"),
        ("NVIDIA H100 NVL", 94, "H100-NVL"),
        ("NVIDIA HGX H200", 141, "H200"),
        ("GH200", 96, "GH200"),
        ("NVIDIA GB300 SXM6", 288, "GB300"),
        ("NVIDIA RTX PRO-A6000 SE", 96, "RTXPRO6000"),
        ("NVIDIA GeForce RTX 5090", 32, "RTX5090"),
        ("RTX 4090 (48 GB mod)", 48, None),
        ("V100M32", None, "V100"),
        ("P100", None, None),
        ("G2", None, None),
        ("MISC", None, None),
    ],
)
def test_names_of_sources(source: str, memory_gb: float | None, canonical: str | None) -> None:
    assert canonical_name(source, memory_gb) == canonical


def test_reference_prices_are_the_medians_they_claim_to_be(data_dir: Path) -> None:
    every = offers(data_dir)
    assert set(every["gpu_model"]) == set(REFERENCE_PRICE_MICRO_USD)
    for (name,), of_model in every.group_by("gpu_model"):
        firm = of_model.filter(~pl.col("is_spot"))["usd_per_gpu_hour"]
        observed = firm if firm.len() >= 2 else of_model["usd_per_gpu_hour"]
        assert micro_usd(float(observed.median() or 0)) == REFERENCE_PRICE_MICRO_USD[str(name)], name  # type: ignore[arg-type]


def _ratios(data_dir: Path, cheap: str, dear: str) -> pl.Series:
    """Prices of tier `dear` over those of tier `cheap`, over pairs of offers of one model by one provider."""
    raw = json.loads((data_dir / "gpu_offers_2026_05/offerings.json").read_bytes())
    keys = ["provider_id", "gpu_model", "vram_gb"]
    every = pl.DataFrame([{key: row[key] for key in (*keys, "tier", "price_usd_hour")} for row in raw])
    pairs = every.filter(tier=cheap).join(every.filter(tier=dear), on=keys, suffix="_dear")
    return pairs["price_usd_hour_dear"] / pairs["price_usd_hour"]


def test_tier_factors_are_the_ratios_they_claim_to_be(data_dir: Path) -> None:
    community_to_secure = _ratios(data_dir, "community", "secure")
    assert community_to_secure.len() == 9
    factor = TIER_FACTOR_PERMILLE
    claimed = factor[SecurityTier.SECURE] / factor[SecurityTier.COMMUNITY]
    assert claimed == pytest.approx(community_to_secure.median(), abs=0.001)
    assert factor[SecurityTier.CONFIDENTIAL] / factor[SecurityTier.SECURE] == pytest.approx(1.84 / 1.65, abs=0.001)


def test_the_spot_discount_is_the_ratio_it_claims_to_be(data_dir: Path) -> None:
    ratios = _ratios(data_dir, "spot", "on-demand")
    assert ratios.len() == 56
    assert pytest.approx(ratios.median(), abs=0.01) == 1 / SPOT_TO_FIRM


def test_itp_sizes_are_those_of_the_trace(data_dir: Path) -> None:
    sizes, jobs = np.unique(itp_arrivals(data_dir).gpu_count, return_counts=True)
    assert dict(zip(sizes.tolist(), jobs.tolist(), strict=True)) == ITP_JOBS_BY_SIZE


def test_node_shapes_of_the_lists_are_the_facts(data_dir: Path) -> None:
    nodes = pl.concat([openb_nodes(data_dir), pai_nodes(data_dir)])
    for shapes, name in ((T4_SHAPES, "T4"), (V100_SHAPES, "V100")):
        counts = nodes.filter(pl.col("source_model").str.starts_with(name))["gpu_count"].to_numpy()
        assert {gpus: np.mean(counts == gpus) for gpus in set(counts.tolist())} == pytest.approx(dict(shapes))


def test_the_check_against_the_other_price_source_holds(data_dir: Path) -> None:
    """Half a year earlier, another author: within a third; GH200 has one offer there, so within a half."""
    other = prime_prices(data_dir).group_by("gpu_model").agg(pl.col("usd_per_gpu_hour").median())
    assert other.height == 6
    for name, usd in other.iter_rows():
        assert REFERENCE_PRICE_MICRO_USD[name] / 1e6 == pytest.approx(
            usd, rel=1 / 2 if name == "GH200" else 1 / 3
        ), name
