"""Reading a plan directory for the checker: frames of the contract's columns, and a report with known types.

A file that cannot be understood is bad input, with file, row and column; what can be read and is wrong is a
fault of the plan. Lists are null where they constrain nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from engine.domain import tables
from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_GPU_COUNT, MAX_GPUS_PER_NODE, MAX_TOTAL_MICRO_USD
from engine.domain.table_rules import MAX_LISTED, Rule, range_rule, violations_of
from engine.planning import plan_files_schema as files
from engine.planning.certificate_faults import Fault, FaultCode

REPORT_FIELDS: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "requests": (int,),
    "requests_served": (int,),
    "gpus_placed": (int,),
    "welfare_micro_usd_per_hour": (int,),
    "bound_micro_usd_per_hour": (int,),
    "gap": (float, int, type(None)),
    "make_whole_micro_usd_per_hour": (int,),
    "move_cost_micro_usd": (int,),
    "displaced_bonus_micro_usd": (int,),
    "inputs": (dict,),
}
OPTIONAL_REPORT_FIELDS: dict[str, tuple[type, ...]] = {
    "stronger_bound_micro_usd_per_hour": (int, type(None)),
    "stronger_gap": (float, int, type(None)),
    "stronger_method": (str, type(None)),
}


Hashes = dict[str, str]
"""SHA-256 in hex by file name; who reads a table adds its own."""


@dataclass(frozen=True, slots=True)
class PlanFiles:
    """All of one plan directory. Frames have the contract's columns; absent optional inputs are empty frames.

    `hashes`: SHA-256, in hex, of the tables that are there, by file name.
    """

    fleet: pl.DataFrame
    requests: pl.DataFrame
    rtt: pl.DataFrame
    placements: pl.DataFrame
    plan: pl.DataFrame
    node_prices: pl.DataFrame
    refusals: pl.DataFrame
    moves: pl.DataFrame
    report: dict[str, Any]
    hashes: Hashes


def read_plan_files(directory: Path) -> PlanFiles:
    """Read and check the shape of every file; InvalidInput names file, row and column."""
    hashes: Hashes = {}
    inputs = directory / files.INPUTS_FOLDER
    fleet, requests, rtt, placements = (
        _input(inputs / name, schema, optional, check, hashes) for name, schema, optional, check in _INPUTS
    )
    tables.check_client_sites(requests, fleet, rtt)
    tables.check_placements(placements, fleet, requests)
    return PlanFiles(
        fleet=fleet,
        requests=_with_defaults(requests),
        rtt=rtt,
        placements=placements,
        plan=read_plan(directory, hashes),
        node_prices=read_node_prices(directory, fleet, hashes),
        refusals=_output(directory / files.REFUSALS_FILE, files.REFUSALS_SCHEMA, hashes),
        moves=_output(directory / files.MOVES_FILE, files.MOVES_SCHEMA, hashes),
        report=read_report(directory),
        hashes=hashes,
    )


def read_plan(directory: Path, hashes: Hashes) -> pl.DataFrame:
    """The rows of a plan, each by itself in range; InvalidInput names row and column."""
    return _output(directory / files.PLAN_FILE, files.PLAN_OF_PARTS_SCHEMA, hashes, {files.CARD})


def read_node_prices(directory: Path, fleet: pl.DataFrame, hashes: Hashes) -> pl.DataFrame:
    """One price for each node of the fleet, whose ids differ, in its order; InvalidInput if they are not that."""
    path = directory / files.NODE_PRICES_FILE
    prices = _output(path, files.NODE_PRICES_SCHEMA, hashes)
    if prices["node_id"].equals(fleet["node_id"]):
        return prices
    unknown = prices.join(fleet, on="node_id", how="anti")["node_id"]
    unpriced = fleet.join(prices, on="node_id", how="anti")["node_id"]
    repeated = prices.filter(pl.col("node_id").is_duplicated())["node_id"].unique(maintain_order=True)
    wrong = ((unknown, "is no node of the fleet"), (unpriced, "has no price"), (repeated, "has several prices"))
    violations = [
        Violation(f"{path.name} column node_id", f"{name!r} {text}")
        for names, text in wrong
        for name in names.head(MAX_LISTED)
    ]
    if violations:
        raise InvalidInput(violations)
    return fleet.select("node_id").join(prices, on="node_id", how="left", maintain_order="left")


def read_report(directory: Path) -> dict[str, Any]:
    """The report; InvalidInput if a figure is not there or of the wrong type."""
    path = directory / files.REPORT_FILE
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput([Violation(path.name, "no such file")]) from None
    except (OSError, ValueError):
        raise InvalidInput([Violation(path.name, "is not readable JSON")]) from None
    if not isinstance(report, dict):
        raise InvalidInput([Violation(path.name, "is not a JSON object")])
    violations = [
        Violation(f"{path.name} {name}", f"{report.get(name)!r} is not a {types[0].__name__}")
        for name, types in (REPORT_FIELDS | OPTIONAL_REPORT_FIELDS).items()
        if name in report or name in REPORT_FIELDS
        if name not in report or not isinstance(report[name], types) or isinstance(report[name], bool)
    ]
    violations += [
        Violation(f"{path.name} {name}", f"must be between 0 and {_MAX_PRICE:,}, got {report[name]}")
        for name in ("move_cost_micro_usd", "displaced_bonus_micro_usd")
        if isinstance(report.get(name), int) and not 0 <= report[name] <= _MAX_PRICE
    ]
    if violations:
        raise InvalidInput(violations)
    return report


def changed_inputs(plan_files: PlanFiles) -> Iterator[Fault]:
    """Inputs whose copies are not those that the report names."""
    named = plan_files.report["inputs"]
    for name in files.INPUT_FILES:
        found = plan_files.hashes.get(name)
        if found != named.get(name):
            sentence = f"inputs/{name} has SHA-256 {found}, the report says {named.get(name)}"
            yield Fault(FaultCode.INPUT_CHANGED, sentence)


Schema = dict[str, pl.DataType]
Check = Callable[[pl.DataFrame], None]
_INPUTS: tuple[tuple[str, Schema, set[str], Check], ...] = (
    (files.FLEET_FILE, tables.FLEET_SCHEMA, tables.OPTIONAL_FLEET_COLUMNS, tables.check_fleet),
    (files.REQUESTS_FILE, tables.REQUESTS_SCHEMA, tables.OPTIONAL_REQUEST_COLUMNS, tables.check_requests),
    (files.RTT_FILE, tables.RTT_SCHEMA, set(), tables.check_rtt),
    (files.PLACEMENTS_FILE, tables.PLACEMENTS_SCHEMA, {files.CARD}, tables.check_placement_rows),
)


def _input(path: Path, schema: Schema, optional: set[str], check: Check, hashes: Hashes) -> pl.DataFrame:
    if path.name in files.OPTIONAL_INPUT_FILES and not path.exists():
        return pl.DataFrame(schema=schema)
    content = tables.read_content(path)
    hashes[path.name] = hashlib.sha256(content).hexdigest()
    frame = tables.parse_table(content, path.name, schema, optional)
    check(frame)
    return frame


def _with_defaults(requests: pl.DataFrame) -> pl.DataFrame:
    lists = [name for name, dtype in requests.schema.items() if dtype == tables.STRINGS]
    flags = [name for name, dtype in requests.schema.items() if dtype == pl.Boolean]
    return requests.with_columns(
        *(pl.when(pl.col(name).list.len() > 0).then(pl.col(name)).alias(name) for name in lists),
        *(pl.col(name).fill_null(False) for name in flags),
        pl.col("gpus_per_node").fill_null(1),
        pl.col("cpu_milli", "memory_mib").fill_null(0),
        part_milli=pl.when(pl.col("gpu_milli") < 1_000).then("gpu_milli").otherwise(0),
    )


def _output(path: Path, schema: Schema, hashes: Hashes, optional: Iterable[str] = ()) -> pl.DataFrame:
    content = tables.read_content(path)
    hashes[path.name] = hashlib.sha256(content).hexdigest()
    frame = tables.parse_table(content, path.name, schema, optional)
    if violations := violations_of(frame, path.name, _output_rules(frame.columns)):
        raise InvalidInput(violations)
    return frame


def _output_rules(columns: list[str]) -> Iterator[Rule]:
    for column in columns:
        value = pl.col(column)
        if column != files.CARD:
            yield column, value.is_null(), "must not be null"
        if column in _RANGES:
            yield range_rule(column, *_RANGES[column], optional=True)
        if column == "shadow_price_micro_usd_per_gpu_hour":
            yield column, ~(value.is_finite() & (value >= 0)), "must be finite and not negative"
        if column == "reason":
            known = list(files.RefusalReason)
            yield column, ~value.is_in(known), f"is not one of {', '.join(known)}"


_MAX_PRICE = MAX_TOTAL_MICRO_USD // MAX_GPU_COUNT
_RANGES = {
    "gpus": (1, MAX_GPU_COUNT),
    "price_micro_usd_per_gpu_hour": (0, _MAX_PRICE),
    files.CARD: (0, MAX_GPUS_PER_NODE - 1),
    "step": (0, MAX_TOTAL_MICRO_USD),
}
