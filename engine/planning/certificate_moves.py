"""Capacity of every node, work that may not move, and an order of moves that overfills no node.

The order needs no look at constraints: a request moves once, all at once, so after its step it stands as in the
plan, and the plan's rows are checked already.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from engine.planning.certificate_cards import Floor, opened_cards
from engine.planning.certificate_faults import Fault, FaultCode, faults_in_rows
from engine.planning.certificate_ledger import Ledger


def given_of_capacity(ledger: Ledger) -> pl.DataFrame:
    """By node that the plan uses: `given` GPUs of its `capacity`, cards that it opens for parts among them."""
    whole = pl.col("part_milli") == 0
    given = ledger.rows.group_by("node_id", maintain_order=True).agg(
        given=(pl.col("gpus") - pl.col("pinned")).filter(whole).sum(), capacity=pl.col("node_capacity").first()
    )
    given = given.join(opened_cards(ledger), on="node_id", how="left", maintain_order="left")
    return given.with_columns(given=pl.col("given") + pl.col("opened").fill_null(0))


def overfull_nodes(ledger: Ledger) -> Iterator[Fault]:
    """Nodes that give more than they have, and pinned rows that the plan moves."""
    given = given_of_capacity(ledger)
    sentence = "{node_id} gives {given} GPUs, its capacity is {capacity}"
    yield from faults_in_rows(given, pl.col("given") > pl.col("capacity"), FaultCode.OVERFULL_NODE, sentence)
    served = ledger.running.join(ledger.files.plan, on="request_id", how="semi")
    kept = ledger.rows.select("request_id", "node_id", placed="gpus")
    pinned = served.filter("pinned").join(kept, on=["request_id", "node_id"], how="left", maintain_order="left")
    left = pl.col("placed").fill_null(0) < pl.col("gpus")
    yield from faults_in_rows(pinned, left, FaultCode.PINNED_MOVED, "{request_id} is pinned to {node_id}")


def shifts(ledger: Ledger) -> pl.DataFrame:
    """GPUs that a served running request gives up (`left`) and gains (`entered`), a row per request and node."""
    plan = ledger.rows.group_by("request_id", "node_id").agg(planned=pl.col("gpus").sum())
    now = ledger.running.group_by("request_id", "node_id").agg(current=pl.col("gpus").sum())
    planned, current = plan.join(now, on="request_id", how="semi"), now.join(plan, on="request_id", how="semi")
    change = pl.col("planned").fill_null(0) - pl.col("current").fill_null(0)
    return (
        planned.join(current, on=["request_id", "node_id"], how="full", coalesce=True)
        .select(
            "request_id",
            "node_id",
            left=pl.max_horizontal(-change, pl.lit(0)),
            entered=pl.max_horizontal(change, pl.lit(0)),
        )
        .sort("request_id", "node_id")
    )


def wrong_moves(ledger: Ledger, shifted: pl.DataFrame) -> Iterator[Fault]:
    """Moves that are not the difference between now and the plan, or that no node could hold in their order."""
    yield from _differences(ledger.files.moves, shifted)
    steps = ledger.files.moves.group_by("request_id", maintain_order=True).agg(steps=pl.col("step").n_unique())
    sentence = "{request_id} moves in {steps} steps"
    yield from faults_in_rows(steps, pl.col("steps") > 1, FaultCode.MOVED_TWICE, sentence)
    shared = ledger.files.moves.group_by("step", maintain_order=True).agg(requests=pl.col("request_id").n_unique())
    sentence = "step {step} moves {requests} requests"
    yield from faults_in_rows(shared, pl.col("requests") > 1, FaultCode.WRONG_MOVES, sentence)
    yield from _overfilling(ledger)


def _differences(moves: pl.DataFrame, shifted: pl.DataFrame) -> Iterator[Fault]:
    for column, end, word in (("left", "from_node_id", "leaves"), ("entered", "to_node_id", "enters")):
        moved = moves.group_by("request_id", node_id=end).agg(moved=pl.col("gpus").sum())
        both = shifted.join(moved, on=["request_id", "node_id"], how="full", coalesce=True).sort(
            "request_id", "node_id"
        )
        planned = pl.col(column).fill_null(0)
        both = both.with_columns(planned=planned, moved=pl.col("moved").fill_null(0))
        sentence = f"{{request_id}} {word} {{node_id}} with {{planned}} GPUs by the plan, {{moved}} by its moves"
        yield from faults_in_rows(both, planned != pl.col("moved"), FaultCode.WRONG_MOVES, sentence)


def _overfilling(ledger: Ledger) -> Iterator[Fault]:
    """Steps after which a node holds more than its free GPUs and all that ran there at the start."""
    floor = Floor(ledger)
    ready = set(ledger.fleet.filter(pl.col("state") == "READY")["node_id"])
    moves = ledger.files.moves.sort("step", maintain_order=True)
    for (step,), rows in moves.group_by("step", maintain_order=True):
        for row in rows.select("request_id", "from_node_id", "to_node_id", "gpus").iter_rows():
            floor.move(*row)
        for target in rows["to_node_id"].unique(maintain_order=True):
            if target not in ready:
                yield Fault(FaultCode.MOVE_OVERFILLS, f"step {step} adds to {target}, which is not READY")
            else:
                for lack in floor.lacks(target):
                    yield Fault(FaultCode.MOVE_OVERFILLS, f"step {step} leaves {target} {lack}")
