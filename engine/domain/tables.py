"""The border of files: reading a table, putting it into shape, and the check that every table passes once.

A table comes from a Parquet file or from the chunks of a bulk call; both become a frame with the columns of
`table_schemas` and are checked whole columns at a time. A violation names the table, the row (0-based) and the
column. This module speaks for all tables; requests and placements have their rules in modules of their own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import (
    MAX_CERTIFICATIONS,
    MAX_CPU_MILLI,
    MAX_GPUS_PER_NODE,
    MAX_MEMORY_MIB,
    MAX_NODES,
    MAX_PRICE_MICRO_USD_PER_GPU_HOUR,
    MAX_RTT_MS,
)
from engine.domain.placement_table import check_placement_rows, check_placements
from engine.domain.request_table import check_client_sites, check_requests
from engine.domain.table_rules import (
    MAX_LISTED,
    TEXT_RULE,
    Rule,
    bad_text,
    duplicate_rule,
    grade_rule,
    range_rule,
    text_rule,
    violations_of,
)
from engine.domain.table_schemas import (
    FLEET_SCHEMA,
    OPTIONAL_FLEET_COLUMNS,
    OPTIONAL_PLACEMENT_COLUMNS,
    OPTIONAL_REQUEST_COLUMNS,
    PLACEMENTS_SCHEMA,
    REQUESTS_SCHEMA,
    RTT_SCHEMA,
    STRINGS,
)
from engine.domain.tiers import ConnectivityTier, Interconnect, NodeState, SecurityTier

__all__ = [
    "FLEET_SCHEMA",
    "MAX_LISTED",
    "OPTIONAL_FLEET_COLUMNS",
    "OPTIONAL_PLACEMENT_COLUMNS",
    "OPTIONAL_REQUEST_COLUMNS",
    "PLACEMENTS_SCHEMA",
    "REQUESTS_SCHEMA",
    "RTT_SCHEMA",
    "STRINGS",
    "check_client_sites",
    "check_fleet",
    "check_placement_rows",
    "check_placements",
    "check_requests",
    "check_rtt",
    "parse_table",
    "read_content",
    "read_table",
    "shape",
]


def read_table(path: Path, schema: dict[str, pl.DataType], optional: Iterable[str] = ()) -> pl.DataFrame:
    """Read one Parquet file and shape it to `schema`; InvalidInput names the file and what is wrong."""
    return parse_table(read_content(path), path.name, schema, optional)


def read_content(path: Path) -> bytes:
    """The bytes of an input file; InvalidInput if there are none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput([Violation(path.name, "no such file")]) from None
    except OSError as error:
        raise InvalidInput([Violation(path.name, f"cannot be read: {error.strerror}")]) from None


def parse_table(
    content: bytes, table: str, schema: dict[str, pl.DataType], optional: Iterable[str] = ()
) -> pl.DataFrame:
    """The Parquet bytes of a table, shaped to `schema`."""
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        # Damaged pages can make the reader panic, which polars does not count among its errors.
        raise InvalidInput([Violation(table, "is not a readable Parquet file")]) from None
    return shape(frame, schema, table, optional)


def shape(
    frame: pl.DataFrame, schema: dict[str, pl.DataType], table: str, optional: Iterable[str] = ()
) -> pl.DataFrame:
    """Put the columns of `schema` in order; a missing optional one becomes null, other columns are dropped.

    Integers may arrive in any width and all-null columns in any type; nothing else is cast.
    """
    violations, optional, found = [], set(optional), frame.schema
    if found == schema:
        return frame
    columns: list[pl.Series | pl.Expr] = []
    for name, dtype in schema.items():
        if name not in found:
            if name in optional:
                columns.append(pl.lit(None, dtype=dtype).alias(name))
            else:
                violations.append(Violation(f"{table} column {name}", "is missing"))
        elif _fits(found[name], dtype):
            column = frame[name].cast(dtype, strict=False)
            columns.append(column)
            for row in (column.is_null() & frame[name].is_not_null()).arg_true().head(MAX_LISTED):
                violations.append(Violation(f"{table} row {row} column {name}", "does not fit into 64 bits"))
        else:
            violations.append(Violation(f"{table} column {name}", f"has type {found[name]}, expected {dtype}"))
    if violations:
        raise InvalidInput(violations)
    return frame.select(columns)


def _fits(found: pl.DataType, wanted: pl.DataType) -> bool:
    if found == wanted or found == pl.Null:
        return True
    if wanted == pl.Int64:
        return found.is_integer()
    if wanted == pl.Float64:
        return found.is_float() or found.is_integer()
    if wanted == pl.String:
        return isinstance(found, pl.Categorical | pl.Enum)
    return wanted == STRINGS and isinstance(found, pl.List) and _fits(found.inner, pl.String())  # type: ignore[arg-type]


def check_fleet(frame: pl.DataFrame, table: str = "fleet.parquet") -> None:
    """Check a frame of FLEET_SCHEMA; InvalidInput lists every rule that is broken, with rows."""
    violations = violations_of(frame, table, _fleet_rules())
    if frame.height > MAX_NODES:
        violations.append(Violation(table, f"has {frame.height} rows, at most {MAX_NODES} nodes are allowed"))
    certifications = frame["certifications"].explode().unique().drop_nulls().len()
    if certifications > MAX_CERTIFICATIONS:
        violations.append(
            Violation(
                f"{table} column certifications",
                f"names {certifications} kinds, at most {MAX_CERTIFICATIONS} are allowed",
            )
        )
    if violations:
        raise InvalidInput(violations)


def check_rtt(frame: pl.DataFrame, table: str = "rtt.parquet") -> None:
    """Check a frame of RTT_SCHEMA; InvalidInput lists every rule that is broken, with rows."""
    same = (pl.col("site_a") == pl.col("site_b")) & (pl.col("rtt_ms") != 0)
    rules = (
        text_rule("site_a"),
        text_rule("site_b"),
        range_rule("rtt_ms", 0.0, MAX_RTT_MS),
        ("rtt_ms", same, "one site is 0 ms from itself"),
    )
    if violations := violations_of(frame, table, rules):
        raise InvalidInput(violations)


def _fleet_rules() -> Iterator[Rule]:
    for column in ("node_id", "supplier_id", "gpu_model", "site_id", "region"):
        yield text_rule(column)
    yield duplicate_rule("node_id", pl.col("node_id"))
    yield range_rule("gpu_count", 1, MAX_GPUS_PER_NODE)
    yield range_rule("gpu_free", 0, MAX_GPUS_PER_NODE)
    yield "gpu_free", pl.col("gpu_free") > pl.col("gpu_count"), "is more than gpu_count"
    yield range_rule("latitude", -90.0, 90.0)
    yield range_rule("longitude", -180.0, 180.0)
    yield range_rule("reliability", 0.0, 1.0)
    yield range_rule("ask_micro_usd_per_gpu_hour", 1, MAX_PRICE_MICRO_USD_PER_GPU_HOUR)
    country = pl.col("country")
    not_a_code = country.is_null() | ~country.str.contains(r"^[A-Z]{2}$")
    yield "country", not_a_code, "is not an ISO 3166-1 alpha-2 code"
    yield grade_rule("security_tier", SecurityTier)
    yield grade_rule("connectivity_tier", ConnectivityTier)
    yield grade_rule("interconnect", Interconnect)
    yield grade_rule("state", NodeState)
    yield text_rule("fabric_id", optional=True)
    yield range_rule("cpu_milli", 0, MAX_CPU_MILLI, optional=True)
    yield range_rule("memory_mib", 0, MAX_MEMORY_MIB, optional=True)
    name = pl.element()
    unwell = pl.col("certifications").list.eval(name.is_null() | bad_text(name) | name.str.contains(","))
    yield "certifications", unwell.list.any(), f"holds an entry that {TEXT_RULE} or commas"
    for column in ("region", "country", "latitude", "longitude"):
        differs = pl.col(column).n_unique().over("site_id") > 1
        yield column, differs, "differs between nodes of the same site_id"
