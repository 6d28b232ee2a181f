"""Alibaba's PAI cluster of 2020: 1,814 machines with 6,742 GPUs; 83 without are left out.

Source: alibaba/clusterdata, cluster-trace-gpu-v2020, CC-BY-4.0. MISC stands for models that the publisher does
not name.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.sources import read_csv, require

MACHINES_FILE = "alibaba_pai_2020_machines/pai_machine_spec.csv"


def pai_nodes(data_dir: Path) -> pl.DataFrame:
    """Machines with GPUs as `source_model` (the publisher's name) and `gpu_count`."""
    path = data_dir / MACHINES_FILE
    frame = read_csv(path, {"gpu_type": pl.String(), "cap_gpu": pl.Int64()})
    require(frame, path, "cap_gpu", pl.col("cap_gpu") >= 0, "is not a number of GPUs")
    return frame.filter(pl.col("cap_gpu") > 0).select(source_model="gpu_type", gpu_count="cap_gpu")
