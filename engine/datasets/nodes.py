"""From lots to the node table.

ASSUMED, node by node: three nodes in four are idle, the rest full or partly used; one in a hundred is draining
and one in a hundred down; reliability is a Beta about the facility's mean, kept in steps of 0.005 as dashboards
show it; asks of one lot differ by a few per cent, kept in steps of a tenth of a cent as price lists do. The
steps also keep pools small: a solver sees some ten thousand different things, not a million.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.datasets.draws import FloatArray, IntArray, choose, lognormal
from engine.datasets.facilities import CERTIFICATIONS, TEE_BIT, Facilities, interconnect_of
from engine.datasets.gpu_models import GPU_MODELS
from engine.datasets.lots import Lots, gpu_counts, lot_of_nodes, position_in_lot
from engine.domain.tables import FLEET_SCHEMA
from engine.domain.tiers import ConnectivityTier, Interconnect, NodeState, SecurityTier

IDLE_SHARE, FULL_SHARE = 0.76, 0.12
STATE_SHARES = (0.98, 0.01, 0.01)
RELIABILITY_CONCENTRATION = 120.0
RELIABILITY_STEPS = 200
ASK_SIGMA = 0.03
ASK_STEP_MICRO_USD = 1_000
NODE_ID_DIGITS, SUPPLIER_ID_DIGITS, FABRIC_ID_DIGITS = 7, 4, 5

_MAX_TIER = np.array([model.max_tier for model in GPU_MODELS])
_FASTEST = np.array([model.fastest_interconnect for model in GPU_MODELS])


def lot_tiers(facilities: Facilities, lots: Lots) -> IntArray:
    """Security tier of each lot: the facility's, unless the model cannot reach it."""
    return np.asarray(np.minimum(facilities.security_tier[lots.facility], _MAX_TIER[lots.model]), dtype=np.int64)


def fleet_frame(
    sites: pl.DataFrame,
    facilities: Facilities,
    lots: Lots,
    lot_ask_micro_usd: FloatArray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Expand lots to the node table in FLEET_SCHEMA; `lot_ask_micro_usd` is the median ask of each lot."""
    lot = lot_of_nodes(lots)
    facility = lots.facility[lot]
    site = pl.Series(facilities.site[facility])
    count = gpu_counts(lots, lot)
    interconnect, fabric = _networks(facilities, lots, lot)
    columns = {
        "node_id": _numbered("n", np.arange(lot.size, dtype=np.int64), NODE_ID_DIGITS),
        "supplier_id": _numbered("s", facilities.supplier[facility], SUPPLIER_ID_DIGITS),
        "gpu_model": _named([model.name for model in GPU_MODELS], lots.model[lot]),
        "gpu_count": pl.Series(count),
        "gpu_free": pl.Series(_free(rng, count)),
        **{name: sites[name].gather(site) for name in ("site_id", "region", "country", "latitude", "longitude")},
        "security_tier": _named(list(SecurityTier.__members__), lot_tiers(facilities, lots)[lot]),
        "certifications": _certifications(facilities, lots, lot),
        "connectivity_tier": _named(list(ConnectivityTier.__members__), facilities.connectivity_tier[facility]),
        "reliability": pl.Series(_reliability(rng, facilities.reliability_mean[facility])),
        "ask_micro_usd_per_gpu_hour": pl.Series(_asks(rng, lot_ask_micro_usd[lot])),
        "interconnect": _named(list(Interconnect.__members__), interconnect),
        "fabric_id": fabric,
        **dict.fromkeys(("cpu_milli", "memory_mib"), pl.Series([None] * lot.size, dtype=pl.Int64)),
        "state": _named(list(NodeState.__members__), choose(rng, STATE_SHARES, lot.size)),
    }
    return pl.DataFrame([columns[name].alias(name).cast(dtype) for name, dtype in FLEET_SCHEMA.items()])


def _numbered(prefix: str, numbers: IntArray, digits: int) -> pl.Series:
    text = pl.Series("text", numbers).cast(pl.String).str.zfill(digits)
    return pl.select(pl.concat_str(pl.lit(prefix), text)).to_series()


def _named(names: list[str], index: IntArray) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(pl.Series(index))


def _free(rng: np.random.Generator, count: IntArray) -> IntArray:
    level = rng.random(count.size)
    part = rng.integers(0, count + 1)
    return np.where(level < IDLE_SHARE, count, np.where(level < IDLE_SHARE + FULL_SHARE, 0, part))


def _reliability(rng: np.random.Generator, mean: FloatArray) -> FloatArray:
    alpha = mean * RELIABILITY_CONCENTRATION
    drawn = rng.beta(alpha, RELIABILITY_CONCENTRATION - alpha)
    return np.round(drawn * RELIABILITY_STEPS) / RELIABILITY_STEPS


def _asks(rng: np.random.Generator, median_micro_usd: FloatArray) -> IntArray:
    steps = np.rint(median_micro_usd * lognormal(rng, ASK_SIGMA, median_micro_usd.size) / ASK_STEP_MICRO_USD)
    return np.maximum(steps, 1).astype(np.int64) * ASK_STEP_MICRO_USD


def _certifications(facilities: Facilities, lots: Lots, lot: IntArray) -> pl.Series:
    mask = facilities.certification_mask[lots.facility]
    mask = np.where(lot_tiers(facilities, lots) == SecurityTier.CONFIDENTIAL, mask, mask & ~TEE_BIT)
    every_mask = [
        [name for bit, name in enumerate(CERTIFICATIONS) if value >> bit & 1]
        for value in range(1 << len(CERTIFICATIONS))
    ]
    return pl.Series(every_mask, dtype=pl.List(pl.String)).gather(pl.Series(mask[lot]))


def _networks(facilities: Facilities, lots: Lots, lot: IntArray) -> tuple[IntArray, pl.Series]:
    """Interconnect and fabric of each node. A lot of one node needs no fabric and stays on Ethernet."""
    interconnect = interconnect_of(facilities, lots.facility, _FASTEST[lots.model])
    interconnect = np.where(lots.nodes > 1, interconnect, int(Interconnect.ETHERNET))
    fabric_nodes = facilities.fabric_nodes[lots.facility]
    fabrics = np.where(interconnect > Interconnect.ETHERNET, -(-lots.nodes // fabric_nodes), 0)
    first_fabric = np.cumsum(fabrics) - fabrics
    fabric = first_fabric[lot] + position_in_lot(lots, lot) // fabric_nodes[lot]
    names = _numbered("f", np.arange(max(int(fabrics.sum()), 1), dtype=np.int64), FABRIC_ID_DIGITS)
    has_fabric = pl.Series(interconnect[lot] > Interconnect.ETHERNET)
    index = pl.Series(np.where(has_fabric.to_numpy(), fabric, 0))
    return interconnect[lot], names.gather(index).set(~has_fabric, None)
