"""The border check of what runs now: `placements.parquet` alone, and against its fleet and its requests."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from engine.domain.errors import InvalidInput
from engine.domain.limits import MAX_GPUS_PER_NODE, MILLI_OF_GPU
from engine.domain.request_table import milli_of_part
from engine.domain.table_rules import Rule, duplicate_rule, range_rule, text_rule, violations_of


def check_placement_rows(frame: pl.DataFrame, table: str = "placements.parquet") -> None:
    """Check a frame of PLACEMENTS_SCHEMA by itself; InvalidInput lists every rule that is broken, with rows."""
    rules = (
        text_rule("request_id"),
        text_rule("node_id"),
        duplicate_rule("node_id", pl.struct("request_id", "node_id")),
        range_rule("gpus", 1, MAX_GPUS_PER_NODE),
        range_rule("card", 0, MAX_GPUS_PER_NODE - 1, optional=True),
        ("movable", pl.col("movable").is_null(), "must be true or false"),
    )
    if violations := violations_of(frame, table, rules):
        raise InvalidInput(violations)


def check_placements(
    placements: pl.DataFrame, fleet: pl.DataFrame, requests: pl.DataFrame, table: str = "placements.parquet"
) -> None:
    """Check rows by themselves, then that they name somebody, split no gang and overfill no node.

    `fleet` and `requests` passed their own checks. What is wrong with a whole request or node is reported at its
    first row.
    """
    check_placement_rows(placements, table)
    in_use = pl.col("gpu_count") - pl.col("gpu_free")
    nodes = fleet.select("node_id", in_use=in_use, cards="gpu_count", cpu="cpu_milli", memory="memory_mib")
    gangs = requests.select(
        "request_id",
        "gpu_count",
        "cpu_milli",
        "memory_mib",
        replica=pl.col("gpus_per_node").fill_null(1),
        milli=milli_of_part(),
    )
    joined = placements.join(nodes, on="node_id", how="left", maintain_order="left").join(
        gangs, on="request_id", how="left", maintain_order="left"
    )
    if violations := violations_of(joined, table, _rules()):
        raise InvalidInput(violations)


def _rules() -> Iterator[Rule]:
    gpus, request, node = pl.col("gpus"), pl.col("request_id"), pl.col("node_id")
    yield "request_id", pl.col("gpu_count").is_null(), "is not in the requests"
    yield "node_id", pl.col("in_use").is_null(), "is not in the fleet"
    yield "gpus", gpus % pl.col("replica") != 0, "is not a multiple of the request's gpus_per_node"
    torn = (gpus.sum().over("request_id") != pl.col("gpu_count")) & request.is_first_distinct()
    yield "request_id", torn, "does not have its gpu_count in all"
    card, milli, first = pl.col("card"), pl.col("milli"), node.is_first_distinct()
    is_part = milli > 0
    yield "card", is_part & card.is_null(), "must name the card of a part of a GPU"
    yield "card", ~is_part & card.is_not_null(), "is for parts of GPUs only"
    yield "card", card >= pl.col("cards"), "is not a card of its node"
    shared = pl.struct("node_id", "card")
    crowded = is_part & (milli.sum().over("node_id", "card") > MILLI_OF_GPU) & shared.is_first_distinct()
    yield "card", crowded, "would run more than a whole GPU"
    whole = pl.when(is_part).then(0).otherwise(gpus).sum().over("node_id")
    cards = card.drop_nulls().n_unique().over("node_id")
    yield "node_id", (whole + cards > pl.col("in_use")) & first, "would run more GPUs than gpu_count - gpu_free"
    for need, have in (("cpu_milli", "cpu"), ("memory_mib", "memory")):
        wanted = (gpus // pl.col("replica") * pl.col(need).fill_null(0)).sum().over("node_id")
        yield "node_id", (wanted > pl.col(have)) & first, f"would run more {need} than it has"
