"""Small traces of shared GPUs, as tables and as the files of the open trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from engine.backtest.sharing_trace import SharingTrace, sharing_trace
from engine.datasets.openb import NODES_FILE, PODS_FILE

POD_SCHEMA = {
    "name": pl.String(),
    "cpu_milli": pl.Int64(),
    "memory_mib": pl.Int64(),
    "num_gpu": pl.Int64(),
    "gpu_milli": pl.Int64(),
    "gpu_spec": pl.String(),
}


def small_machines() -> pl.DataFrame:
    """Twelve nodes of three models, of which one is short of CPU."""
    rows = (
        [("G2", 8, 96_000, 393_216)] * 4 + [("T4", 2, 104_000, 524_288)] * 5 + [("P100", 2, 16_000, 122_880)] * 3
    )
    frame = pl.DataFrame(rows, schema=["model", "gpu", "cpu_milli", "memory_mib"], orient="row")
    return frame.with_columns(
        pl.format("node-{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(3)).alias("sn")
    )


def small_pods(seed: int, count: int = 60) -> pl.DataFrame:
    """Pods like those of the open trace: parts, whole GPUs, several, none; some name models."""
    draw = np.random.default_rng(seed)
    kinds = [(3_152, 5_600, 1, 810), (11_300, 49_152, 1, 1_000), (11_908, 47_104, 1, 470), (4_000, 15_258, 1, 320)]
    kinds += [
        (12_500, 57_344, 0, 0),
        (64_200, 263_168, 8, 1_000),
        (4_000, 15_258, 1, 160),
        (16_000, 32_768, 2, 1_000),
    ]
    chosen = draw.choice(len(kinds), count, p=[0.2, 0.25, 0.2, 0.1, 0.1, 0.03, 0.07, 0.05])
    specs = draw.choice(["", "T4", "G2|P100"], count, p=[0.7, 0.2, 0.1])
    rows = [
        (f"pod-{place:04}", *kinds[kind], spec or None)
        for place, (kind, spec) in enumerate(zip(chosen.tolist(), specs.tolist(), strict=True))
    ]
    return pl.DataFrame(rows, schema=POD_SCHEMA, orient="row")


def small_trace(seed: int, count: int = 60) -> SharingTrace:
    """Machines and pods together."""
    pods = small_pods(seed, count)
    no_gpu = pl.col("num_gpu") == 0
    return sharing_trace(small_machines(), pods.with_columns(gpu_spec=pl.when(~no_gpu).then("gpu_spec")))


def write_openb(folder: Path, trace: str = "default") -> Path:
    """The same as files where the command looks for them; the folder of all data."""
    (folder / NODES_FILE).parent.mkdir(parents=True, exist_ok=True)
    small_machines().write_csv(folder / NODES_FILE)
    small_pods(1).write_parquet(folder / PODS_FILE.format(trace))
    return folder
