"""Alibaba's GPU cluster of 2023 (openb): 1,213 nodes, 6,212 GPUs, and pods that name acceptable models.

Source: hkust-adsl/kubernetes-scheduler-simulator @ 8f3d641, Apache-2.0. G2 and G3 are models that the publisher
hides.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.sources import read_csv, read_parquet, require

NODES_FILE = "alibaba_openb_2023/openb_node_list_gpu_node.csv"
PODS_FILE = "alibaba_openb_2023/openb_pod_list_{}.parquet"
CARD_MILLI = 1_000


def openb_nodes(data_dir: Path) -> pl.DataFrame:
    """Nodes as `source_model` (the publisher's name) and `gpu_count`."""
    path = data_dir / NODES_FILE
    frame = read_csv(path, {"model": pl.String(), "gpu": pl.Int64()})
    _require_gpus(frame, path)
    return frame.select(source_model="model", gpu_count="gpu")


def openb_machines(data_dir: Path) -> pl.DataFrame:
    """Nodes by name, with what shared GPUs need: `model`, `gpu`, `cpu_milli`, `memory_mib`."""
    path = data_dir / NODES_FILE
    counts = ("gpu", "cpu_milli", "memory_mib")
    frame = read_csv(path, {"sn": pl.String(), "model": pl.String(), **dict.fromkeys(counts, pl.Int64())})
    _require_gpus(frame, path)
    for column in counts:
        require(frame, path, column, pl.col(column) > 0, "is not a positive number")
    return frame.sort("sn")


def openb_pods(data_dir: Path, trace: str) -> pl.DataFrame:
    """Pods by name: `cpu_milli`, `memory_mib`, `num_gpu`, `gpu_milli` per GPU (0 without one), `gpu_spec`.

    `gpu_spec` lists acceptable models with `|` between them; null accepts all.
    """
    path = data_dir / PODS_FILE.format(trace)
    counts = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
    frame = read_parquet(path, {"name": pl.String(), **dict.fromkeys(counts, pl.Int64()), "gpu_spec": pl.String()})
    for column in counts:
        require(frame, path, column, pl.col(column) >= 0, "is not a number of at least 0")
    has_gpu, part = pl.col("num_gpu") > 0, pl.col("gpu_milli") < CARD_MILLI
    require(frame, path, "gpu_milli", pl.col("gpu_milli") <= CARD_MILLI, "is more than one GPU")
    require(frame, path, "gpu_milli", ~has_gpu | (pl.col("gpu_milli") > 0), "is no part of a GPU")
    require(frame, path, "num_gpu", ~(part & (pl.col("num_gpu") > 1)), "is several GPUs of which only parts")
    gpu_milli = pl.when(has_gpu).then("gpu_milli").otherwise(0).alias("gpu_milli")
    spec = pl.when(has_gpu & (pl.col("gpu_spec") != "")).then("gpu_spec").otherwise(None).alias("gpu_spec")
    return frame.with_columns(gpu_milli, spec).sort("name")


def _require_gpus(frame: pl.DataFrame, path: Path) -> None:
    require(frame, path, "gpu", pl.col("gpu") > 0, "is not a positive number of GPUs")
    require(frame, path, "model", pl.col("model").str.len_chars() > 0, "is not a GPU model")
