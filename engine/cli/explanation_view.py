"""How the constraints narrow the fleet, and what would help, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.cli.amounts import usd
from engine.cli.text_table import text_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from walras.v1 import cluster_service_pb2

SHOWN_RELAXATIONS = 5


def show_explanation(console: Console, explanation: cluster_service_pb2.Explanation) -> None:
    """The verdict and its reasons."""
    console.print(verdict(explanation), soft_wrap=True)
    show_reasons(console, explanation)


def show_reasons(console: Console, explanation: cluster_service_pb2.Explanation) -> None:
    """GPUs wanted and free, one row a constraint, cheapest relaxations."""
    console.print(f"{explanation.gpu_count:,} GPUs wanted, {explanation.gpus_free:,} free in the fleet")
    if explanation.constraints:
        console.print(constraint_table(explanation.constraints))
    if not all(row.exact for row in explanation.constraints):
        console.print("≤: a search limit was reached, the counts of this row are upper bounds")
    for line in relaxation_lines(explanation):
        console.print(line, soft_wrap=True)


def verdict(explanation: cluster_service_pb2.Explanation) -> str:
    """The answer in one line."""
    if explanation.feasible:
        price = f", for {usd(explanation.price.total_micro_usd)}" if explanation.HasField("price") else ""
        return f"feasible{price}"
    return f"{explanation.reason}: {explanation.detail}"


def constraint_table(rows: Iterable[cluster_service_pb2.ConstraintCount]) -> Table:
    """The most GPUs one cluster could have: under each constraint alone, cumulatively, and without it."""
    shown = []
    for row in rows:
        bound = "" if row.exact else "≤ "
        counts = (row.gpus_alone, row.gpus_cumulative, row.gpus_without)
        shown.append((row.constraint, *(f"{bound}{count:,}" for count in counts)))
    headings = ("alone", "with those above", "without it")
    return text_table("the most GPUs one cluster could have", ("constraint",), headings, shown)


def relaxation_lines(explanation: cluster_service_pb2.Explanation) -> list[str]:
    """The cheapest single changes, a sentence each; what it means if there is none."""
    if explanation.feasible:
        return []
    if not explanation.relaxations:
        return ["no single change of the request makes it feasible"]
    cheapest = explanation.relaxations[:SHOWN_RELAXATIONS]
    return ["what would make it feasible:", *(f"  {relaxation_sentence(each)}" for each in cheapest)]


def relaxation_sentence(relaxation: cluster_service_pb2.Relaxation) -> str:
    """As in "raise max_client_rtt_ms from 30 to 41: $2.31": the least change, and what the cluster then costs."""
    before, after = relaxation.from_value, relaxation.to_value
    change = f"{_verb(before, after)} {relaxation.field} from {before} to {after}"
    return f"{change}: {usd(relaxation.total_micro_usd)}"


def _verb(before: str, after: str) -> str:
    try:
        return "raise" if float(after) > float(before) else "lower"
    except ValueError:
        return "change"
