"""The fleets, and the requests that each can serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.registry import SEED, WorldKind
from engine.datasets.real import World, real_world
from engine.datasets.synthetic import synthetic_fleet, synthetic_rtt
from engine.domain.cluster_request import ClusterRequest, parse_cluster_request

DURATION_S = 24 * 3_600
VARIANTS_MAX = 4
SLACK = 1.25
"""A model is asked for a cluster only if it has this many times its GPUs free."""


def world_of(kind: WorldKind, gpus: int, data_dir: Path | None) -> World:
    """The seeded world; `data_dir` is needed for the real one."""
    if kind == "real":
        assert data_dir is not None
        return real_world(data_dir, gpus, SEED)
    fleet = synthetic_fleet(gpus, SEED)
    return World(fleet, synthetic_rtt(fleet, SEED))


def requests_for(fleet: pl.DataFrame, gpu_count: int, constraints: Mapping[str, Any]) -> list[ClusterRequest]:
    """Requests of one size for the most plentiful GPU models, one model each.

    If no model alone has GPUs enough: one request that mixes the most plentiful ones. Empty if even that does
    not fit.
    """
    free = _free_gpus(fleet)
    alone = [model for model, gpus in free.items() if gpus >= SLACK * gpu_count][:VARIANTS_MAX]
    if alone:
        return [_request(gpu_count, [model], False, constraints) for model in alone]
    mixed: list[str] = []
    for model in free:
        mixed.append(model)
        if sum(free[name] for name in mixed) >= SLACK * gpu_count:
            return [_request(gpu_count, mixed, True, constraints)]
    return []


def _free_gpus(fleet: pl.DataFrame) -> dict[str, int]:
    """Free GPUs of READY nodes by model, most first, ties by name."""
    ready = fleet.filter(pl.col("state") == "READY")
    counts = ready.group_by("gpu_model").agg(pl.col("gpu_free").sum())
    return dict(counts.sort(["gpu_free", "gpu_model"], descending=[True, False]).rows())


def _request(gpu_count: int, models: list[str], mixed: bool, constraints: Mapping[str, Any]) -> ClusterRequest:
    fields = {"gpu_count": gpu_count, "gpu_models": models, "allow_mixed_models": mixed, "duration_s": DURATION_S}
    return parse_cluster_request({**fields, **constraints})
