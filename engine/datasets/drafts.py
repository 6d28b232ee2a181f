"""Drafts: for each arrival a home stock, a replica size and a kind of gang; constraints are drawn around them.

Kinds of gangs (two GPUs or more): one SITE, one FABRIC, TIGHT (at most 0 to 2 ms between any two nodes), or
SPREAD. A gang of the first three kinds gets a home stock that could hold it whole, if the fleet has one; a
spread gang one that could hold an eighth of it.
ASSUMED: all shares here. They keep two gangs in five to one site or fabric, as training clusters are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import polars as pl

from engine.datasets.draws import BoolArray, IntArray, choose, lognormal
from engine.datasets.stocks import REPLICA_SIZES, draw_stocks, stocks_by
from engine.domain.errors import InvalidInput, Violation


class GangKind(IntEnum):
    """How the nodes of a gang may lie to each other."""

    SPREAD = 0
    SITE = 1
    FABRIC = 2
    TIGHT = 3


GANG_KIND_SHARES = (0.60, 0.15, 0.14, 0.11)
PER_NODE_SHARES = (0.30, 0.10, 0.15, 0.45)
"""Of gangs, by REPLICA_SIZES; a size that does not divide the gang becomes the largest divisor of both."""
SPREAD_HOME_SHARE = 8
POPULARITY_SIGMA = 0.7
WISHFUL_SHARE = 0.025


@dataclass(frozen=True, slots=True)
class Drafts:
    """Columns, one entry a request."""

    gpu_count: IntArray
    gpus_per_node: IntArray
    kind: IntArray
    """GangKind; single GPUs are SPREAD."""
    home: pl.DataFrame
    """The fleet row of the node that stands for the home stock."""
    wishful: BoolArray
    """Asks for the highest tier wherever its home is."""

    @property
    def is_gang(self) -> BoolArray:
        """Two GPUs or more."""
        return np.asarray(self.gpu_count >= 2)

    @property
    def count(self) -> int:
        """Number of requests."""
        return int(self.gpu_count.size)


def draw_drafts(gpu_count: IntArray, fleet: pl.DataFrame, rng: np.random.Generator) -> Drafts:
    """Draw the drafts of requests of these sizes."""
    drawn_size = np.array(REPLICA_SIZES)[choose(rng, PER_NODE_SHARES, gpu_count.size)]
    gpus_per_node = np.gcd(gpu_count, drawn_size)
    kind = np.where(gpu_count >= 2, choose(rng, GANG_KIND_SHARES, gpu_count.size), int(GangKind.SPREAD))
    kind, home = _homes(fleet, gpu_count, gpus_per_node, kind, rng)
    return Drafts(gpu_count, gpus_per_node, kind, home, rng.random(gpu_count.size) < WISHFUL_SHARE)


def _homes(
    fleet: pl.DataFrame, gpu_count: IntArray, gpus_per_node: IntArray, kind: IntArray, rng: np.random.Generator
) -> tuple[IntArray, pl.DataFrame]:
    """Home nodes, and the kinds: where the fleet has no fabric, gangs of one fabric become gangs of one site."""
    popularity = _popularity(fleet, rng)
    places = stocks_by(fleet, ["site_id", "supplier_id"], popularity)
    fabrics = stocks_by(fleet, ["fabric_id"], popularity)
    if places.count == 0:
        raise InvalidInput([Violation("fleet.parquet column state", "no node is READY")])
    if fabrics.count == 0:
        kind = np.where(kind == GangKind.FABRIC, int(GangKind.SITE), kind)
    share = np.where(kind == GangKind.SPREAD, gpu_count // SPREAD_HOME_SHARE, gpu_count)
    needed = np.maximum(share, gpus_per_node)
    node = places.node[draw_stocks(rng, places, needed, gpus_per_node)]
    in_fabric = kind == GangKind.FABRIC
    if in_fabric.any():
        drawn = draw_stocks(rng, fabrics, needed[in_fabric], gpus_per_node[in_fabric])
        node[in_fabric] = fabrics.node[drawn]
    return kind, fleet[node]


def _popularity(fleet: pl.DataFrame, rng: np.random.Generator) -> dict[str, float]:
    """Demand per unit of supply by region: some regions are crowded, some are idle."""
    regions = sorted(fleet["region"].unique().to_list())
    return dict(zip(regions, lognormal(rng, POPULARITY_SIGMA, len(regions)).tolist(), strict=True))
