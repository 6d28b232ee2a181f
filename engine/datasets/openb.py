"""Alibaba's GPU cluster of 2023 (openb): 1,213 nodes, 6,212 GPUs, and pods that name acceptable models.

Source: hkust-adsl/kubernetes-scheduler-simulator @ 8f3d641, Apache-2.0. G2 and G3 are models that the publisher
hides.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.sources import read_csv, require

NODES_FILE = "alibaba_openb_2023/openb_node_list_gpu_node.csv"


def openb_nodes(data_dir: Path) -> pl.DataFrame:
    """Nodes as `source_model` (the publisher's name) and `gpu_count`."""
    path = data_dir / NODES_FILE
    frame = read_csv(path, {"model": pl.String(), "gpu": pl.Int64()})
    require(frame, path, "gpu", pl.col("gpu") > 0, "is not a positive number of GPUs")
    require(frame, path, "model", pl.col("model").str.len_chars() > 0, "is not a GPU model")
    return frame.select(source_model="model", gpu_count="gpu")
