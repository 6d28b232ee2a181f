"""Facilities: one supplier at one site, with the trust and the networks that all its nodes share.

ASSUMED throughout, no public list says it: most sites have one to four suppliers; supplier sizes follow a
power law (few large, many small); a supplier has one security tier everywhere, holds certificates with a
probability that grows with the tier, and the better it is trusted the better it is connected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.datasets.draws import FloatArray, IntArray, choose, choose_by_row, lognormal, zipf_weights
from engine.domain.tiers import Interconnect

CERTIFICATIONS = ("SOC2", "ISO27001", "HIPAA", "E2EE", "TEE")
"""Bit i of a certification mask stands for entry i."""
TEE_BIT = 1 << CERTIFICATIONS.index("TEE")

SUPPLIERS_AT_A_SITE = (0.28, 0.30, 0.20, 0.14, 0.05, 0.03)
"""Share of sites with 1, 2, … 6 suppliers."""
FACILITIES_PER_SUPPLIER = 2.5

# Rows: COMMUNITY, VERIFIED, SECURE, CONFIDENTIAL.
TIER_SHARES = (0.30, 0.32, 0.28, 0.10)
CERTIFICATION_CHANCES = np.array(
    [
        [0.02, 0.00, 0.00, 0.06, 0.00],
        [0.35, 0.20, 0.08, 0.25, 0.00],
        [0.90, 0.70, 0.50, 0.50, 0.00],
        [1.00, 0.90, 0.80, 1.00, 1.00],
    ]
)
CONNECTIVITY_SHARES = np.array(
    [
        [0.30, 0.40, 0.22, 0.08],
        [0.10, 0.30, 0.38, 0.22],
        [0.01, 0.09, 0.40, 0.50],
        [0.00, 0.05, 0.35, 0.60],
    ]
)
INTERCONNECT_SHARES = np.array(
    [
        [0.85, 0.13, 0.02],
        [0.30, 0.35, 0.35],
        [0.05, 0.30, 0.65],
        [0.03, 0.22, 0.75],
    ]
)
RELIABILITY_MEANS = np.array([0.93, 0.965, 0.985, 0.99])
FABRIC_NODES = np.array([16, 32, 64, 128, 256])
FABRIC_SHARES = (0.20, 0.30, 0.25, 0.17, 0.08)
PRICE_LEVEL_SIGMA = 0.15


@dataclass(frozen=True, slots=True)
class Facilities:
    """Columns, one entry a facility, sorted by (site, supplier); no pair occurs twice."""

    site: IntArray
    """Row of the sites frame."""
    supplier: IntArray
    weight: FloatArray
    """Relative size in GPUs."""
    security_tier: IntArray
    certification_mask: IntArray
    connectivity_tier: IntArray
    interconnect: IntArray
    """The fastest network here; nodes of slower models stay on Ethernet."""
    fabric_nodes: IntArray
    """Nodes that share one high-speed network."""
    reliability_mean: FloatArray
    price_level: FloatArray
    """Factor on all asks, median 1."""

    @property
    def count(self) -> int:
        """Number of facilities."""
        return int(self.site.size)


def draw_facilities(site_weights: FloatArray, rng: np.random.Generator) -> Facilities:
    """Draw the suppliers at each site, and what each brings."""
    suppliers_here = 1 + choose(rng, SUPPLIERS_AT_A_SITE, site_weights.size)
    site = np.repeat(np.arange(site_weights.size, dtype=np.int64), suppliers_here)
    supplier_size = _supplier_sizes(site.size)
    site, supplier = _distinct_pairs(site, choose(rng, supplier_size, site.size))
    tier_of_supplier = _tiers_spread_over_sizes(rng, supplier_size)
    tier = tier_of_supplier[supplier]
    masks = _certification_masks(rng, tier_of_supplier)
    return Facilities(
        site=site,
        supplier=supplier,
        weight=site_weights[site] * supplier_size[supplier] ** 0.5 * lognormal(rng, 0.7, site.size),
        security_tier=tier,
        certification_mask=masks[supplier],
        connectivity_tier=choose_by_row(rng, CONNECTIVITY_SHARES, tier),
        interconnect=choose_by_row(rng, INTERCONNECT_SHARES, tier),
        fabric_nodes=FABRIC_NODES[choose(rng, FABRIC_SHARES, site.size)],
        reliability_mean=np.minimum(RELIABILITY_MEANS[tier] + rng.normal(0.0, 0.008, site.size), 0.998),
        price_level=lognormal(rng, PRICE_LEVEL_SIGMA, site.size),
    )


def _supplier_sizes(facilities: int) -> FloatArray:
    return zipf_weights(max(round(facilities / FACILITIES_PER_SUPPLIER), len(TIER_SHARES)), 0.9, 4.0)


def _distinct_pairs(site: IntArray, supplier: IntArray) -> tuple[IntArray, IntArray]:
    pairs = np.unique(np.stack([site, supplier], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _tiers_spread_over_sizes(rng: np.random.Generator, supplier_size: FloatArray) -> IntArray:
    """Tiers of the suppliers in quotas of total size: drawn one by one, the largest would decide the shares."""
    order = rng.permutation(supplier_size.size)
    middle = np.cumsum(supplier_size[order]) - supplier_size[order] / 2
    tier = np.empty(supplier_size.size, dtype=np.int64)
    tier[order] = np.searchsorted(np.cumsum(TIER_SHARES)[:-1] * supplier_size.sum(), middle, side="right")
    return tier


def _certification_masks(rng: np.random.Generator, tier: IntArray) -> IntArray:
    held = rng.random((tier.size, len(CERTIFICATIONS))) < CERTIFICATION_CHANCES[tier]
    return np.asarray(held @ (1 << np.arange(len(CERTIFICATIONS))), dtype=np.int64)


def interconnect_of(facilities: Facilities, facility: IntArray, fastest_of_model: IntArray) -> IntArray:
    """Network of nodes at `facility`: the slower of what the place has and what the model is sold with."""
    at_site = facilities.interconnect[facility]
    return np.minimum(at_site, np.maximum(fastest_of_model, int(Interconnect.ETHERNET)))
