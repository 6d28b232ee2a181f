"""A written plan as small tables for people: what is used, refused, scarce, dear and broken.

Every function takes the files of a plan directory and returns a frame, its most important rows first.
"""

from __future__ import annotations

import polars as pl

from engine.domain.tiers import NodeState
from engine.planning.certificate_files import PlanFiles
from engine.planning.plan_files_schema import CARD, RefusalReason

SHADOW = "shadow_price_micro_usd_per_gpu_hour"


def nodes_after(files: PlanFiles) -> pl.DataFrame:
    """READY nodes with `used_before`, `used_after`, `free_after` and `capacity`, what a plan could give away."""
    running = (
        _whole_gpus(files.placements)
        .group_by("node_id")
        .agg(running=pl.col("gpus").sum(), movable=pl.col("gpus").filter("movable").sum())
    )
    planned = (
        _whole_gpus(files.plan.with_columns(movable=True)).group_by("node_id").agg(planned=pl.col("gpus").sum())
    )
    used_before = pl.col("gpu_count") - pl.col("gpu_free")
    used_after = used_before - pl.col("running") + pl.col("planned")
    return (
        files.fleet.filter(pl.col("state") == NodeState.READY.name)
        .join(running, on="node_id", how="left", maintain_order="left")
        .join(planned, on="node_id", how="left", maintain_order="left")
        .with_columns(pl.col("running", "movable", "planned").fill_null(0))
        .with_columns(
            used_before=used_before,
            used_after=used_after,
            free_after=pl.col("gpu_count") - used_after,
            capacity=pl.col("gpu_free") + pl.col("movable"),
        )
    )


def _whole_gpus(rows: pl.DataFrame) -> pl.DataFrame:
    """`node_id`, `gpus`, `movable` of placements: a card with parts is one GPU, and moves if all of them may."""
    columns = rows.select("node_id", "gpus", "movable")
    if CARD not in rows.columns:
        return columns
    is_part = rows[CARD].is_not_null()
    cards = rows.filter(is_part).group_by("node_id", CARD).agg(pl.col("gpus").max(), pl.col("movable").all())
    return pl.concat([columns.filter(~is_part), cards.drop(CARD)])


def utilisation(nodes: pl.DataFrame) -> pl.DataFrame:
    """By GPU model: `gpus` on READY nodes, and how many of them are used before and after the plan."""
    counts = nodes.group_by("gpu_model").agg(
        pl.col("gpu_count").sum().alias("gpus"), pl.col("used_before", "used_after").sum()
    )
    return counts.sort("gpus", "gpu_model", descending=[True, False])


def refusals_by_reason(files: PlanFiles) -> pl.DataFrame:
    """By reason: `requests`, their `gpus`, and what they bid at most, `bid_micro_usd_per_hour`."""
    bid = pl.col("gpu_count").cast(pl.Int128) * pl.col("max_price_micro_usd_per_gpu_hour")
    return (
        _refused(files)
        .group_by("reason")
        .agg(requests=pl.len(), gpus=pl.col("gpu_count").sum(), bid_micro_usd_per_hour=bid.sum())
        .sort("gpus", "reason", descending=[True, False])
    )


def prices_by_market(files: PlanFiles, nodes: pl.DataFrame) -> pl.DataFrame:
    """By (GPU model, region, security tier): `gpus` to give away, and `median`, `low` and `high` shadow price.

    Every node with capacity counts once.
    """
    price = pl.col(SHADOW)
    market = ["gpu_model", "region", "security_tier"]
    return (
        nodes.filter(pl.col("capacity") > 0)
        .join(files.node_prices, on="node_id", how="left")
        .group_by(market)
        .agg(gpus=pl.col("capacity").sum(), median=price.median(), low=price.min(), high=price.max())
        .sort("gpus", *market, descending=[True, False, False, False])
    )


def fragmentation(files: PlanFiles, nodes: pl.DataFrame) -> pl.DataFrame:
    """By GPU model and wanted GPUs per node: `refused` GPUs, `free` GPUs of the model, and those `stranded`.

    Stranded are free GPUs of nodes that were built for such a replica and are too broken for one now. A refused
    request counts under every model it accepts.
    """
    models = nodes.select(pl.col("gpu_model").unique()).to_series()
    wanted = (
        _refused(files)
        .filter(pl.col("gpus_per_node") > 1)
        .with_columns(gpu_model=pl.col("gpu_models").fill_null(models.implode()))
        .explode("gpu_model")
        .group_by("gpu_model", "gpus_per_node")
        .agg(refused=pl.col("gpu_count").sum())
    )
    free, shape = pl.col("free_after"), pl.col("gpus_per_node")
    too_broken = (free < shape) & (shape <= pl.col("gpu_count"))
    return (
        wanted.join(nodes.select("gpu_model", "gpu_count", "free_after"), on="gpu_model")
        .group_by("gpu_model", "gpus_per_node")
        .agg(pl.col("refused").first(), free=free.sum(), stranded=free.filter(too_broken).sum())
        .sort("stranded", "gpu_model", "gpus_per_node", descending=[True, False, False])
    )


def scarce_sets(files: PlanFiles) -> pl.DataFrame:
    """The scarce sets that refusals point at: `detail`, how many `requests` do, and the `gpus` they want."""
    return (
        _refused(files)
        .filter(pl.col("reason") == RefusalReason.SCARCE_CAPACITY)
        .group_by("detail")
        .agg(requests=pl.len(), gpus=pl.col("gpu_count").sum())
        .sort("gpus", "detail", descending=[True, False])
    )


def _refused(files: PlanFiles) -> pl.DataFrame:
    return files.refusals.join(files.requests, on="request_id")
