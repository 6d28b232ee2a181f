"""What a request demands of nodes and suppliers: tier, certifications, networks, reliability, supplier rules.

ASSUMED: all shares. Nothing is demanded that the home stock lacks, except by wishful requests. Reliability has
four thresholds only: pools are cut at the thresholds that requests name, and people name round figures.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.datasets.drafts import Drafts, GangKind
from engine.datasets.draws import BoolArray, IntArray
from engine.datasets.request_places import MOST_OTHERS, nullable, others_than, with_others
from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier

TIER_SHARE, CERTIFICATIONS_SHARE, CONNECTIVITY_SHARE = 0.50, 0.20, 0.20
INTERCONNECT_SHARE, INTERCONNECT_SHARE_IN_FABRIC = 0.12, 0.5
RELIABILITY_SHARE, RELIABILITY_SHARE_IF_BOUND = 0.20, 0.05
RELIABILITY_THRESHOLDS = np.array([0.90, 0.95, 0.97, 0.99])
RELIABILITY_MARGIN = 0.02
ALLOWED_SHARE, EXCLUDED_SHARE = 0.03, 0.05
SUPPLIER_SHARE_SHARE = 0.10
SUPPLIER_SHARES = np.array([0.25, 0.5, 0.75])
SMALLEST_SHARED_REPLICAS = 4


def trust_columns(drafts: Drafts, fleet: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Series]:
    """All columns of REQUESTS_SCHEMA that speak of trust, networks and suppliers."""
    return {
        "min_security_tier": _security(drafts, rng),
        "certifications": _certifications(drafts, rng),
        "min_connectivity_tier": _connectivity(drafts, rng),
        "min_interconnect": _interconnect(drafts, rng),
        "same_fabric": pl.Series(drafts.kind == GangKind.FABRIC),
        "min_reliability": _reliability(drafts, rng),
        **_suppliers(drafts, fleet, rng),
    }


def _ranks(grades: pl.Series, members: list[str]) -> IntArray:
    ranks = {name: rank for rank, name in enumerate(members)}
    return grades.replace_strict(ranks, return_dtype=pl.Int64).to_numpy()


def _grade_up_to(
    rng: np.random.Generator, home: IntArray, names: list[str], keep: BoolArray
) -> tuple[IntArray, pl.Series]:
    """A grade above the lowest and not above the home's, as rank and as name; null where none is or not kept."""
    rank = 1 + rng.integers(0, np.maximum(home, 1))
    kept = keep & (home >= 1)
    return np.where(kept, rank, 0), nullable([names[r] for r in rank], kept)


def _security(drafts: Drafts, rng: np.random.Generator) -> pl.Series:
    names = list(SecurityTier.__members__)
    home = _ranks(drafts.home["security_tier"], names)
    _, named = _grade_up_to(rng, home, names, rng.random(drafts.count) < TIER_SHARE)
    return named.set(pl.Series(drafts.wishful), names[-1])


def _certifications(drafts: Drafts, rng: np.random.Generator) -> pl.Series:
    wants = rng.random(drafts.count) < CERTIFICATIONS_SHARE
    wanted = rng.integers(1, 3, drafts.count)
    first = rng.random(drafts.count)
    lists = [
        ["TEE"] if wish else _some(held, start, size) if want else None
        for held, start, size, want, wish in zip(
            drafts.home["certifications"].to_list(), first, wanted, wants, drafts.wishful, strict=True
        )
    ]
    return pl.Series(lists, dtype=pl.List(pl.String))


def _some(held: list[str] | None, start: float, size: int) -> list[str] | None:
    """`size` neighbours of a list, from a relative start in [0, 1), sorted; None of nothing."""
    if not held:
        return None
    first = int(start * len(held))
    return sorted({held[(first + step) % len(held)] for step in range(size)})


def _connectivity(drafts: Drafts, rng: np.random.Generator) -> pl.Series:
    names = list(ConnectivityTier.__members__)
    home = _ranks(drafts.home["connectivity_tier"], names)
    return _grade_up_to(rng, home, names, rng.random(drafts.count) < CONNECTIVITY_SHARE)[1]


def _interconnect(drafts: Drafts, rng: np.random.Generator) -> pl.Series:
    names = list(Interconnect.__members__)
    home = _ranks(drafts.home["interconnect"], names)
    share = np.where(drafts.kind == GangKind.FABRIC, INTERCONNECT_SHARE_IN_FABRIC, INTERCONNECT_SHARE)
    return _grade_up_to(rng, home, names, drafts.is_gang & (rng.random(drafts.count) < share))[1]


def _reliability(drafts: Drafts, rng: np.random.Generator) -> pl.Series:
    """The largest threshold that the home keeps with a margin, so that its neighbours mostly keep it too."""
    bound = drafts.kind != GangKind.SPREAD
    share = np.where(bound, RELIABILITY_SHARE_IF_BOUND, RELIABILITY_SHARE)
    home = drafts.home["reliability"].to_numpy() - RELIABILITY_MARGIN
    kept = np.searchsorted(RELIABILITY_THRESHOLDS, home, side="right") - 1
    keep = (rng.random(drafts.count) < share) & (kept >= 0)
    return nullable(RELIABILITY_THRESHOLDS[np.maximum(kept, 0)], keep)


def _suppliers(drafts: Drafts, fleet: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Series]:
    names = fleet["supplier_id"].unique().sort().to_list()
    home = drafts.home["supplier_id"].to_list()
    allows = rng.random(drafts.count) < ALLOWED_SHARE
    others = rng.integers(1, MOST_OTHERS + 1, drafts.count)
    allowed = with_others(rng, home, names, others, allows)
    excluded = others_than(rng, home, names, allowed, rng.random(drafts.count) < EXCLUDED_SHARE)
    return {
        "allowed_suppliers": pl.Series(allowed, dtype=pl.List(pl.String)),
        "excluded_suppliers": pl.Series(excluded, dtype=pl.List(pl.String)),
        "max_supplier_share": _supplier_share(drafts, ~allows, rng),
    }


def _supplier_share(drafts: Drafts, free_choice: BoolArray, rng: np.random.Generator) -> pl.Series:
    """For spread gangs of four replicas or more: each share here still allows a supplier one replica."""
    replicas = drafts.gpu_count // drafts.gpus_per_node
    apt = (drafts.kind == GangKind.SPREAD) & (replicas >= SMALLEST_SHARED_REPLICAS) & free_choice
    share = SUPPLIER_SHARES[rng.integers(0, SUPPLIER_SHARES.size, drafts.count)]
    return nullable(share, apt & (rng.random(drafts.count) < SUPPLIER_SHARE_SHARE))
