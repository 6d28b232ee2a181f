"""What became of a batch, as tables or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from engine.cli.amounts import usd
from engine.cli.json_reply import placement_rows
from engine.cli.text_table import Row, pair_table, shortened, text_table

if TYPE_CHECKING:
    from rich.console import Console
    from walras.v1 import cluster_service_pb2 as pb

Outcomes = Sequence[tuple[tuple[str, ...], "pb.DeployClustersResponse"]]
"""Requests by id, and the answer to the message with them."""


def batch_json(outcomes: Outcomes) -> dict[str, Any]:
    """Leases as `deploy --json` shows one, and refusals."""
    leases, refusals = [], []
    for request_ids, answer in outcomes:
        leases += [row for row in _leases(request_ids, answer) if row["lease_id"]]
        for error in answer.errors:
            violations = [{"field": each.field, "description": each.description} for each in error.violations]
            told = {"reason": error.reason, "message": error.message, "metadata": dict(error.metadata)}
            refusals.append({"request_id": request_ids[error.index], **told, "violations": violations})
    return {"leases": leases, "refusals": refusals}


def show_batch(console: Console, outcomes: Outcomes) -> None:
    """Totals, and what was refused and why."""
    told = batch_json(outcomes)
    leases, refusals = told["leases"], told["refusals"]
    rows = [
        ("requests", f"{len(leases) + len(refusals):,}"),
        ("leases", f"{len(leases):,}"),
        ("GPUs", f"{sum(lease['gpu_count'] for lease in leases):,}"),
        ("total", usd(sum(lease["total_micro_usd"] for lease in leases))),
        ("refused", f"{len(refusals):,}"),
    ]
    console.print(pair_table("batch", rows))
    if refusals:
        counts = Counter(refusal["reason"] for refusal in refusals).most_common()
        console.print(text_table("why", ("reason",), ("requests",), [(name, f"{n:,}") for name, n in counts]))
        shown: list[Row] = [
            (refusal["request_id"], refusal["reason"], str(refusal["message"])) for refusal in refusals
        ]
        console.print(text_table("refused", ("request", "reason", "detail"), (), shortened(shown)))


def _leases(request_ids: tuple[str, ...], answer: pb.DeployClustersResponse) -> Iterator[dict[str, Any]]:
    place, first = placement_rows(answer.placement), 0
    columns = answer.lease_ids, answer.gpu_counts, answer.totals_micro_usd, answer.end_times_us, answer.node_counts
    for request_id, lease_id, gpus, total, ends_at_us, nodes in zip(request_ids, *columns, strict=True):
        yield {
            "request_id": request_id,
            "lease_id": lease_id,
            "gpu_count": gpus,
            "total_micro_usd": total,
            "end_time_us": ends_at_us,
            "placements": place[first : first + nodes],
        }
        first += nodes
