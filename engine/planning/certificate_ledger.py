"""What the checker holds against a plan: who runs where, what must stay served, what every node can give."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from engine.planning.certificate_files import PlanFiles

HIGHEST_PRICE = 2.0**62
"""Micro-USD per GPU-hour; what is above would not be an integer of 64 bits, and is no price either."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The files of a plan, joined. Money is integer micro-USD per GPU-hour.

    `fleet`: also `capacity` (free GPUs and those of movable rows, 0 unless READY), `cpu_left` and `memory_left`
    (what pinned rows do not use, null: not limited), `card_left` (the most thousandths left on a card with a
    pinned part), `all_left` (of all such cards) and `list_price` = max(ask, ⌈p⌉). `requests`: also `running`,
    `displaced`, `must_serve`, `pinned_gpus` and `value`. `running`: the placements of now, with `state` of their
    node, `pinned`, and of their request `part_milli` (thousandths of a part, 0 of whole GPUs) and `cpu` and
    `memory` that they use. `rows`: the rows of the plan whose names are known, with the request's columns, those
    of the node as `node_<name>`, and `pinned` and `current` GPUs of the request there.
    """

    files: PlanFiles
    fleet: pl.DataFrame
    requests: pl.DataFrame
    running: pl.DataFrame
    rows: pl.DataFrame


def open_ledger(files: PlanFiles) -> Ledger:
    """Join the files; nothing is judged here."""
    states = files.fleet.select("node_id", "state")
    replicas = pl.col("gpus") // pl.col("gpus_per_node")
    wants = files.requests.select("request_id", "gpus_per_node", "part_milli", "cpu_milli", "memory_mib")
    running = (
        files.placements.join(states, on="node_id", maintain_order="left")
        .join(wants, on="request_id", maintain_order="left")
        .with_columns(
            pinned=(pl.col("state") == "READY") & ~pl.col("movable"),
            cpu=replicas * pl.col("cpu_milli"),
            memory=replicas * pl.col("memory_mib"),
        )
        .drop("gpus_per_node", "cpu_milli", "memory_mib")
    )
    fleet = _fleet(files, running)
    requests = _requests(files, running)
    return Ledger(files, fleet, requests, running, _rows(files.plan, fleet, requests, running))


def _fleet(files: PlanFiles, running: pl.DataFrame) -> pl.DataFrame:
    whole, pinned = pl.col("part_milli") == 0, pl.col("pinned")
    movable = running.group_by("node_id").agg(
        movable=pl.col("gpus").filter(whole & ~pinned).sum(),
        cpu_used=pl.col("cpu").filter(pinned).sum(),
        memory_used=pl.col("memory").filter(pinned).sum(),
    )
    cards = (
        running.filter(~whole)
        .group_by("node_id", "card")
        .agg(fixed=pl.col("part_milli").filter(pinned).sum())
        .with_columns(left=pl.when(pl.col("fixed") > 0).then(1_000 - pl.col("fixed")).otherwise(0))
        .group_by("node_id")
        .agg(loose=(pl.col("fixed") == 0).sum(), card_left=pl.col("left").max(), all_left=pl.col("left").sum())
    )
    given = pl.col("gpu_free") + pl.col("movable").fill_null(0) + pl.col("loose").fill_null(0)
    ready, shadow = pl.col("state") == "READY", pl.col("shadow_price_micro_usd_per_gpu_hour")
    due = shadow.clip(upper_bound=HIGHEST_PRICE).ceil().cast(pl.Int64)
    return (
        files.fleet.join(files.node_prices, on="node_id", how="left", maintain_order="left")
        .join(movable, on="node_id", how="left", maintain_order="left")
        .join(cards, on="node_id", how="left", maintain_order="left")
        .with_columns(
            capacity=pl.when(ready).then(given).otherwise(0),
            cpu_left=pl.col("cpu_milli") - pl.col("cpu_used").fill_null(0),
            memory_left=pl.col("memory_mib") - pl.col("memory_used").fill_null(0),
            card_left=pl.when(ready).then(pl.col("card_left").fill_null(0)).otherwise(0),
            all_left=pl.when(ready).then(pl.col("all_left").fill_null(0)).otherwise(0),
            list_price=pl.max_horizontal("ask_micro_usd_per_gpu_hour", due),
        )
    )


def _requests(files: PlanFiles, running: pl.DataFrame) -> pl.DataFrame:
    bonus = files.report["displaced_bonus_micro_usd"]
    standing = running.group_by("request_id").agg(
        displaced=(pl.col("state") != "READY").any(),
        pinned_gpus=pl.col("gpus").filter("pinned").sum(),
    )
    may_stop = pl.col("displaced") | (pl.col("interruptible") & (pl.col("pinned_gpus") == 0))
    return (
        files.requests.join(standing, on="request_id", how="left", maintain_order="left")
        .with_columns(
            running=pl.col("displaced").is_not_null(),
            displaced=pl.col("displaced").fill_null(False),
            pinned_gpus=pl.col("pinned_gpus").fill_null(0),
        )
        .with_columns(
            must_serve=pl.col("running") & ~may_stop,
            value=pl.col("max_price_micro_usd_per_gpu_hour") + pl.col("displaced").cast(pl.Int64) * bonus,
        )
    )


def _rows(plan: pl.DataFrame, fleet: pl.DataFrame, requests: pl.DataFrame, running: pl.DataFrame) -> pl.DataFrame:
    here = running.group_by("request_id", "node_id").agg(
        current=pl.col("gpus").sum(),
        pinned=pl.col("gpus").filter("pinned").sum(),
        card_now=pl.col("card").first(),
    )
    return (
        plan.join(requests, on="request_id", maintain_order="left")
        .join(fleet.rename(lambda name: f"node_{name}"), left_on="node_id", right_on="node_node_id")
        .join(here, on=["request_id", "node_id"], how="left", maintain_order="left")
        .with_columns(pl.col("current", "pinned").fill_null(0))
    )
