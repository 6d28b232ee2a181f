"""Writing a plan's directory: each file whole under its name or not at all, and the report last.

The old report goes first: a directory without one holds no finished plan.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from engine.planning import plan_files_schema as files
from engine.planning.answers import moves_of, refusals_of
from engine.planning.encode import Encoded
from engine.planning.plan_directory import write_whole
from engine.planning.prices_charged import Charges
from engine.planning.report import Report
from solvers.planning.plan import Plan
from solvers.planning.problem import NO_CARD


def plan_tables(encoded: Encoded, plan: Plan, charges: Charges) -> dict[str, pl.DataFrame]:
    """The tables of a plan by file name, in the order of the inputs."""
    placements = {
        "request_id": encoded.request_ids.gather(plan.request),
        "node_id": encoded.node_ids.gather(plan.node),
        "gpus": plan.gpus,
        "price_micro_usd_per_gpu_hour": charges.price_micro_usd,
    }
    schema = files.PLAN_SCHEMA
    if plan.card is not None and encoded.problem.milli > 1:
        schema = files.PLAN_OF_PARTS_SCHEMA
        placements[files.CARD] = pl.Series(plan.card).replace(NO_CARD, None)
    prices = {"node_id": encoded.node_ids, "shadow_price_micro_usd_per_gpu_hour": plan.node_price}
    return {
        files.PLAN_FILE: pl.DataFrame(placements, schema=schema),
        files.NODE_PRICES_FILE: pl.DataFrame(prices, schema=files.NODE_PRICES_SCHEMA),
        files.REFUSALS_FILE: refusals_of(encoded, plan),
        files.MOVES_FILE: moves_of(encoded, plan),
    }


def write_tables(directory: Path, tables: Mapping[str, pl.DataFrame], inputs: Mapping[str, bytes]) -> None:
    """Write tables and copies of the inputs; what an earlier plan had and this one has not is removed."""
    (directory / files.REPORT_FILE).unlink(missing_ok=True)
    for name in files.INPUT_FILES:
        copy = directory / files.INPUTS_FOLDER / name
        if name in inputs:
            write_whole(copy, inputs[name])
        else:
            copy.unlink(missing_ok=True)
    for name, table in tables.items():
        write_whole(directory / name, parquet(table))


def write_report(directory: Path, report: Report) -> None:
    """Write the report, which makes the directory a plan."""
    text = json.dumps(report.as_json(), ensure_ascii=False, allow_nan=False, indent=2)
    write_whole(directory / files.REPORT_FILE, f"{text}\n".encode())


def parquet(table: pl.DataFrame) -> bytes:
    """A table as zstd Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()
