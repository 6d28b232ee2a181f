"""The directory of an earlier plan as the start of the next: its prices, and what of it can stand as it stood.

A placement is taken over if its request is the same in every column, its nodes are the same but for free GPUs,
state and ask, and are READY now. Where the measured RTTs changed, only requests that name no RTT are taken over.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain import tables
from engine.domain.errors import InvalidInput, Violation
from engine.domain.tiers import NodeState
from engine.planning import plan_files_schema as files
from engine.planning.encode import Encoded
from engine.planning.inputs import InputPaths, Inputs, read_inputs
from solvers.planning.plan import Start

Float = NDArray[np.float64]
CHANGING = ("gpu_free", "state", "ask_micro_usd_per_gpu_hour")
RTT_LIMITS = ("max_client_rtt_ms", "max_cluster_rtt_ms")


def read_start(directory: Path, inputs: Inputs, encoded: Encoded) -> Start:
    """The start that a plan directory gives; InvalidInput names what is not there or not as it should be."""
    if not (directory / files.REPORT_FILE).exists():
        raise InvalidInput([Violation("--last", f"{directory} holds no finished plan")])
    earlier = read_inputs(_paths(directory / files.INPUTS_FOLDER))
    plan = tables.read_table(directory / files.PLAN_FILE, files.PLAN_SCHEMA)
    prices = tables.read_table(directory / files.NODE_PRICES_FILE, files.NODE_PRICES_SCHEMA)
    nodes = _numbered(encoded.node_ids, "node")
    rows = _standing(plan, earlier, inputs).join(_numbered(encoded.request_ids, "request"), on="request_id")
    rows = rows.join(nodes, on="node_id").sort("request", "node")
    return Start(
        request=rows["request"].to_numpy().astype(np.int64),
        node=rows["node"].to_numpy().astype(np.int64),
        gpus=rows["gpus"].to_numpy().astype(np.int64),
        node_price=_prices(prices, earlier, nodes),
    )


def _paths(folder: Path) -> InputPaths:
    rtt, placements = folder / files.RTT_FILE, folder / files.PLACEMENTS_FILE
    return InputPaths(
        folder / files.FLEET_FILE,
        folder / files.REQUESTS_FILE,
        rtt if rtt.exists() else None,
        placements if placements.exists() else None,
    )


def _numbered(ids: pl.Series, name: str) -> pl.DataFrame:
    return ids.alias(f"{name}_id").to_frame().with_row_index(name)


def _standing(plan: pl.DataFrame, earlier: Inputs, now: Inputs) -> pl.DataFrame:
    """The rows of placements that are whole on nodes and for requests that are as they were."""
    requests = _alike(now.requests, earlier.requests, ())
    if not now.rtt.equals(earlier.rtt):
        requests = requests.filter(pl.all_horizontal(pl.col(column).is_null() for column in RTT_LIMITS))
    ready = now.fleet.filter(pl.col("state") == NodeState.READY.name)
    stands = plan.join(_alike(ready, earlier.fleet, CHANGING).select("node_id"), on="node_id", how="semi")
    whole = stands.group_by("request_id").agg(pl.col("gpus").sum()).join(requests, on="request_id")
    return stands.join(whole.filter(pl.col("gpus") == pl.col("gpu_count")), on="request_id", how="semi")


def _alike(now: pl.DataFrame, earlier: pl.DataFrame, but: Collection[str]) -> pl.DataFrame:
    """Rows of `now` that stand in `earlier` too, columns of `but` aside."""
    same = [column for column in now.columns if column not in but]
    return now.join(
        earlier.select(_comparable(earlier, same)), left_on=_comparable(now, same), right_on=same, how="semi",
        nulls_equal=True,
    )  # fmt: skip


def _comparable(frame: pl.DataFrame, columns: list[str]) -> list[pl.Expr]:
    """Lists as text, since frames cannot be joined on lists; no name contains the separator."""
    return [
        pl.col(column).list.join("\n") if frame.schema[column] == pl.List(pl.String) else pl.col(column)
        for column in columns
    ]


def _prices(prices: pl.DataFrame, earlier: Inputs, nodes: pl.DataFrame) -> Float:
    """The earlier price of every node of now; NaN where there was none, or nothing to be sold."""
    idle = (pl.col("state") == NodeState.READY.name) & (pl.col("gpu_free") > 0)
    sold = earlier.placements.filter("movable")["node_id"]
    had = earlier.fleet.filter(idle | pl.col("node_id").is_in(sold.implode())).select("node_id")
    found = nodes.join(prices.join(had, on="node_id", how="semi"), on="node_id", how="left", maintain_order="left")
    price: Float = found["shadow_price_micro_usd_per_gpu_hour"].fill_null(float("nan")).to_numpy()
    return price
