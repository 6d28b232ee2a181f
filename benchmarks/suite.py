"""The deploy families, fleet by fleet: load, start again, then rounds of calls; everything temporary is removed.

It imports no more than these need: a comparison runs it on the engine of an older revision.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.calls import Client
from benchmarks.decisions import fits, loaded_state
from benchmarks.deploy import Results, measure
from benchmarks.processes import Child, floor_process
from benchmarks.registry import (
    EXPONENT_FAMILY,
    EXPONENT_SIZES,
    SIZES,
    Effort,
    Family,
    WorldKind,
)
from benchmarks.startup import measure_startup
from benchmarks.statistics import exponent
from benchmarks.worlds import requests_for, world_of
from engine.datasets.real import World
from engine.market.state import MarketState

SERVER_KEYS: dict[WorldKind, str] = {"synthetic": "server", "real": "server_real"}


def run(families: Sequence[Family], effort: Effort, data_dir: Path | None) -> Results:
    """The flat results. Families of the real world are left out without `data_dir`."""
    results: Results = {}
    for kind, gpus in _worlds(families, effort, data_dir):
        say(f"{kind} world of {gpus:,} GPUs: drawing it")
        chosen = [family for family in families if family.world == kind and gpus in family.fleets]
        with tempfile.TemporaryDirectory(prefix="walras-bench-") as place:
            results |= _on_world(kind, gpus, chosen, effort, world_of(kind, gpus, data_dir), Path(place) / "data")
    return results | _exponents(results, effort)


def _worlds(families: Sequence[Family], effort: Effort, data_dir: Path | None) -> Iterator[tuple[WorldKind, int]]:
    kinds: tuple[WorldKind, ...] = ("synthetic", "real") if data_dir is not None else ("synthetic",)
    for kind in kinds:
        for gpus in effort.fleets:
            if any(family.world == kind and gpus in family.fleets for family in families):
                yield kind, gpus


def _on_world(
    kind: WorldKind, gpus: int, families: Sequence[Family], effort: Effort, world: World, data_dir: Path
) -> Results:
    say("loading it into an engine, and starting that again")
    server = measure_startup(world, data_dir, effort.starts)
    state = loaded_state(world)
    results: Results = {}
    with floor_process(data_dir) as child:
        for family in families:
            results |= _family_results(family, gpus, world, state, child, effort)
        server["calls_peak_rss_mb"] = child.peak_rss_mb()
    server["peak_rss_mb"] = max(value for name, value in server.items() if name.endswith("peak_rss_mb"))
    return results | {f"{SERVER_KEYS[kind]}.{name}@{gpus}": value for name, value in server.items()}


def _family_results(
    family: Family, gpus: int, world: World, state: MarketState, child: Child, effort: Effort
) -> Results:
    results: Results = {}
    with Client(child.target) as client:
        for size in SIZES:
            key = f"{family.name}.{size.gpu_count}@{gpus}"
            wanted = requests_for(world.fleet, size.gpu_count, family.constraints)
            variants = [request for request in wanted if fits(state, request)]
            if not variants:
                say(f"{key}: not applicable, the fleet cannot serve it")
                continue
            mixed = " (mixed models)" if variants[0].allow_mixed_models else ""
            say(f"{key}: {effort.rounds} rounds over {len(variants)} requests{mixed}")
            figures = measure(client, state, variants, size, effort).results(size)
            results |= {f"{key}.{name}": value for name, value in figures.items()}
    return results


def _exponents(results: Results, effort: Effort) -> Results:
    """Growth of the decision with the fleet for each size, and the worst of them."""
    if len(effort.fleets) < 2:
        return {}
    found: Results = {}
    for size in SIZES:
        if size.gpu_count not in EXPONENT_SIZES:
            continue
        prefix = f"{EXPONENT_FAMILY}.{size.gpu_count}"
        costs = {gpus: results.get(f"{prefix}@{gpus}.decision_{size.unit}_p50") for gpus in effort.fleets}
        known = {gpus: cost for gpus, cost in costs.items() if cost is not None}
        if len(known) > 1:
            found[f"{prefix}.decision_exponent_fleet"] = exponent(known)
    return found | {f"{EXPONENT_FAMILY}.decision_exponent_fleet": max(found.values())} if found else {}


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)
