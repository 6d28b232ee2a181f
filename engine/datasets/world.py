"""Writing a world to a directory: `fleet.parquet`, `rtt.parquet`, `requests.parquet`.

Each file is written under a temporary name and renamed when complete, so that whoever reads the directory sees
a whole file or none. The three are checked by the rules of the border before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.datasets.real import World, real_requests, real_world
from engine.datasets.requests import free_gpus
from engine.datasets.synthetic import require_positive, synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.domain.errors import InvalidInput, Violation
from engine.domain.tables import check_fleet, check_rtt

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WorldSummary:
    """What was written."""

    nodes: int
    gpus: int
    gpus_free: int
    """Of READY nodes."""
    sites: int
    regions: int
    suppliers: int
    gpu_models: int
    rtt_pairs: int
    requests: int
    gpus_requested: int

    @property
    def load(self) -> float | None:
        """GPUs requested over free GPUs; None if nothing is free."""
        return self.gpus_requested / self.gpus_free if self.gpus_free else None


def write_world(
    out_dir: Path,
    *,
    gpus: int,
    requests: int,
    seed: int,
    data_dir: Path | None,
    load: float | None,
    progress: Progress,
) -> WorldSummary:
    """Build a world of `gpus` GPUs and `requests` requests and write it to `out_dir`, which is made if needed.

    Synthetic without `data_dir`, else from the public data there. `progress` gets a sentence before each step.
    Raises InvalidInput for arguments out of range, a load that cannot be reached, broken data files, and a
    directory that cannot be written.
    """
    require_positive("gpus", gpus)
    _require_arguments(requests, data_dir)
    progress(f"building a fleet of {gpus:,} GPUs")
    world = _world(gpus, seed, data_dir)
    progress(f"drawing {requests:,} cluster requests")
    wanted = _requests(world.fleet, requests, seed, data_dir, load)
    check_fleet(world.fleet)
    check_rtt(world.rtt)
    progress(f"writing fleet.parquet, rtt.parquet and requests.parquet to {out_dir}")
    _write_all(out_dir, {"fleet": world.fleet, "rtt": world.rtt, "requests": wanted})
    return _summary(world, wanted)


def _write_all(out_dir: Path, frames: dict[str, pl.DataFrame]) -> None:
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            write_whole(frame, out_dir / f"{name}.parquet")
    except OSError as error:
        raise InvalidInput([Violation("out", f"{out_dir} cannot be written: {error.strerror}")]) from error


def write_whole(frame: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file (zstd) under a temporary name beside `path`, then rename it into place."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        frame.write_parquet(partial, compression="zstd")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _require_arguments(requests: int, data_dir: Path | None) -> None:
    if requests < 0:
        raise InvalidInput([Violation("requests", f"must not be negative, got {requests}")])
    if data_dir is not None and not data_dir.is_dir():
        raise InvalidInput([Violation("data", f"{data_dir} is not a directory")])


def _world(gpus: int, seed: int, data_dir: Path | None) -> World:
    if data_dir is not None:
        return real_world(data_dir, gpus, seed)
    fleet = synthetic_fleet(gpus, seed)
    return World(fleet, synthetic_rtt(fleet, seed))


def _requests(
    fleet: pl.DataFrame, count: int, seed: int, data_dir: Path | None, load: float | None
) -> pl.DataFrame:
    if data_dir is not None:
        return real_requests(data_dir, fleet, count, seed, load)
    return synthetic_requests(fleet, count, seed, load)


def _summary(world: World, requests: pl.DataFrame) -> WorldSummary:
    fleet = world.fleet
    return WorldSummary(
        nodes=fleet.height,
        gpus=int(fleet["gpu_count"].sum()),
        gpus_free=free_gpus(fleet),
        sites=fleet["site_id"].n_unique(),
        regions=fleet["region"].n_unique(),
        suppliers=fleet["supplier_id"].n_unique(),
        gpu_models=fleet["gpu_model"].n_unique(),
        rtt_pairs=world.rtt.height,
        requests=requests.height,
        gpus_requested=int(requests["gpu_count"].sum()),
    )
