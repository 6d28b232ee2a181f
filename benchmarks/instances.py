"""The standard instances of joint planning: frames by the rules of CONTRACT, seeded; same arguments, same bytes.

`standard` is a data-centre fleet of 125,000 nodes and nearly a million GPUs, taken from a larger synthetic fleet:
98 nodes in 100 hold 8 GPUs, the rest are what the synthetic world has beside them. `real` is the world of public
data. Requests come from `engine.datasets`: every constraint kind occurs, a third of the gangs is bound to one site
or fabric, max_price is reference × LogNormal(0, 0.5). Where a column of the queue is constrained less often than
that of the real queue, requests without it copy it from others that are alike until it is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.registry import SEED
from engine.datasets.draws import BoolArray, IntArray, choose, stream
from engine.datasets.real import World, real_requests, real_world
from engine.datasets.request_trust import SMALLEST_SHARED_REPLICAS
from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.datasets.world import write_whole
from engine.domain.tables import PLACEMENTS_SCHEMA
from engine.planning.inputs import InputPaths, Inputs

NODES = 125_000
REQUESTS = 10_000
REAL_GPUS = 1_000_000
WHOLE_NODE_GPUS = 8
WHOLE_NODE_SHARE = 0.98
DRAWN_GPUS_PER_NODE = 12
"""GPUs of the synthetic fleet that is drawn for each node kept: enough of them hold 8 GPUs."""
LOADS = (0.5, 0.9, 1.3)

REAL_MIX: dict[str, float] = {
    "gpu_models": 0.9771,
    "allow_mixed_models": 0.0682,
    "regions": 0.2467,
    "countries": 0.1439,
    "sites": 0.2104,
    "excluded_regions": 0.0429,
    "excluded_countries": 0.0589,
    "excluded_sites": 0.0317,
    "client_latitude": 0.0860,
    "client_longitude": 0.0860,
    "client_site": 0.0735,
    "max_client_rtt_ms": 0.1595,
    "max_cluster_rtt_ms": 0.1630,
    "min_security_tier": 0.4023,
    "certifications": 0.1586,
    "min_connectivity_tier": 0.1837,
    "min_interconnect": 0.1242,
    "same_fabric": 0.1419,
    "min_reliability": 0.1351,
    "allowed_suppliers": 0.0292,
    "excluded_suppliers": 0.0474,
    "max_supplier_share": 0.0598,
    "interruptible": 0.1095,
}
"""Share of 10,000 requests of `real` that each column constrains: the largest of the three loads."""
TRUST = ("min_security_tier", "certifications", "min_connectivity_tier", "min_interconnect", "min_reliability")
SUPPLIER_RULES = ("allowed_suppliers", "excluded_suppliers", "max_supplier_share")
"""These and TRUST depend on what the fleet has; all other columns are drawn alike for every fleet."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A fleet, the measured RTTs and a queue, in the schemas of CONTRACT. Nothing runs."""

    fleet: pl.DataFrame
    rtt: pl.DataFrame
    requests: pl.DataFrame

    def inputs(self) -> Inputs:
        """What `engine.planning.encode.encode` takes."""
        return Inputs(self.fleet, self.requests, self.rtt, pl.DataFrame(schema=PLACEMENTS_SCHEMA), {})


def standard(load: float, requests: int = REQUESTS, nodes: int = NODES) -> Instance:
    """The data-centre instance. `load`: GPUs requested over free GPUs of READY nodes."""
    fleet = _data_centre_fleet(nodes)
    queue = no_easier(synthetic_requests(fleet, requests, SEED, load), REAL_MIX)
    return Instance(fleet, synthetic_rtt(fleet, SEED), queue)


def real(load: float, data_dir: Path, requests: int = REQUESTS, gpus: int = REAL_GPUS) -> Instance:
    """The instance of public data in `data_dir`, as `walras world --real` draws it."""
    world: World = real_world(data_dir, gpus, SEED)
    return Instance(world.fleet, world.rtt, real_requests(data_dir, world.fleet, requests, SEED, load))


def changed(instance: Instance, share: float = 0.01) -> Instance:
    """The instance a while later: on `share` of the nodes other GPUs are free, `share` of the queue is new.

    Rows keep their order; a new request stands where the one that left stood: a copy of a drawn other one with an
    id and a price limit of its own.
    """
    rng = stream(SEED, "change")
    return replace(
        instance,
        fleet=_refilled(instance.fleet, share, rng),
        requests=_renewed(instance.requests, share, rng),
    )


def write(instance: Instance, directory: Path) -> InputPaths:
    """Write the three files to `directory`, which is made if needed; where they are."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {name: directory / f"{name}.parquet" for name in ("fleet", "requests", "rtt")}
    for name, path in paths.items():
        write_whole(getattr(instance, name), path)
    return InputPaths(**paths)


def mix(requests: pl.DataFrame) -> dict[str, float]:
    """Share of requests that each column of REAL_MIX constrains."""
    return {column: float(_constrains(requests[column]).mean() or 0.0) for column in REAL_MIX}  # type: ignore[arg-type]


def bound_gangs(requests: pl.DataFrame) -> float:
    """Share of the gangs (two GPUs or more) that one site or fabric must hold: by name, `same_fabric` or 0 ms."""
    gangs = requests.filter(pl.col("gpu_count") >= 2)
    one_site = (pl.col("sites").list.len() == 1) & pl.col("regions").is_null() & pl.col("countries").is_null()
    bound = one_site | pl.col("same_fabric") | (pl.col("max_cluster_rtt_ms") == 0)
    return gangs.filter(bound.fill_null(False)).height / max(gangs.height, 1)


def no_easier(requests: pl.DataFrame, least: dict[str, float]) -> pl.DataFrame:
    """Fill TRUST and SUPPLIER_RULES up to the shares of `least`, from requests alike in model, fabric and sites.

    A column that too few alike requests could fill stays below its share.
    """
    rng = stream(SEED, "no easier")
    kinds = requests.select(
        pl.col("gpu_models").list.first().fill_null(""),
        pl.col("same_fabric"),
        pl.col("sites").is_null(),
        (pl.col("gpu_count") // pl.col("gpus_per_node")).alias("replicas") >= SMALLEST_SHARED_REPLICAS,
    ).rows()
    for column in TRUST + SUPPLIER_RULES:
        rules = SUPPLIER_RULES if column in SUPPLIER_RULES else (column,)
        may = ~np.any([_constrains(requests[name]).to_numpy() for name in rules], axis=0)
        requests = requests.with_columns(_filled(requests[column], may, kinds, least[column], rng))
    return requests


def _data_centre_fleet(nodes: int) -> pl.DataFrame:
    drawn = synthetic_fleet(nodes * DRAWN_GPUS_PER_NODE, SEED).with_row_index("row")
    whole = pl.col("gpu_count") == WHOLE_NODE_GPUS
    rng = stream(SEED, "data centre")
    kept = [
        rng.permutation(rows)[:count]
        for rows, count in (
            (drawn.filter(whole)["row"].to_numpy(), round(nodes * WHOLE_NODE_SHARE)),
            (drawn.filter(~whole)["row"].to_numpy(), nodes - round(nodes * WHOLE_NODE_SHARE)),
        )
    ]
    return drawn.drop("row")[np.sort(np.concatenate(kept))]


def _constrains(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column.fill_null(False)
    return column.list.len().fill_null(0) > 0 if column.dtype == pl.List else column.is_not_null()


def _filled(
    column: pl.Series, may: BoolArray, kinds: list[Any], share: float, rng: np.random.Generator
) -> pl.Series:
    constrained = _constrains(column).to_numpy()
    missing = math.ceil(share * len(column)) - int(constrained.sum())
    if missing <= 0:
        return column
    donors: dict[Any, list[int]] = {}
    for row in np.flatnonzero(constrained).tolist():
        donors.setdefault(kinds[row], []).append(row)
    takers = [row for row in rng.permutation(np.flatnonzero(may)).tolist() if kinds[row] in donors][:missing]
    source = np.arange(len(column))
    for row in takers:
        alike = donors[kinds[row]]
        source[row] = alike[int(rng.integers(len(alike)))]
    return column.gather(pl.Series(source))


def _some(rng: np.random.Generator, rows: int, share: float) -> IntArray:
    return np.sort(rng.permutation(rows)[: math.ceil(share * rows)])


def _refilled(fleet: pl.DataFrame, share: float, rng: np.random.Generator) -> pl.DataFrame:
    chosen = _some(rng, fleet.height, share)
    free, count = fleet["gpu_free"].to_numpy().copy(), fleet["gpu_count"].to_numpy()
    free[chosen] = rng.integers(0, count[chosen] + 1)
    return fleet.with_columns(pl.Series("gpu_free", free))


def _renewed(requests: pl.DataFrame, share: float, rng: np.random.Generator) -> pl.DataFrame:
    chosen = _some(rng, requests.height, share)
    source = np.arange(requests.height)
    source[chosen] = choose(rng, np.ones(requests.height), chosen.size)
    ids, price = requests["request_id"].to_numpy().copy(), "max_price_micro_usd_per_gpu_hour"
    ids[chosen] = [f"new-{ids[row]}" for row in chosen]
    other_prices = requests[price].to_numpy()[source]
    other_prices[chosen] = np.maximum(np.rint(other_prices[chosen] * rng.uniform(0.8, 1.25, chosen.size)), 1)
    return requests[source].with_columns(
        pl.Series("request_id", ids, dtype=pl.String), pl.Series(price, other_prices.astype(np.int64))
    )
