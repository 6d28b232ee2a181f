"""The file columns of the contract as polars schemas, and the border check that every table passes once.

A table comes from a Parquet file or from the chunks of a bulk call; both become a frame with these columns
and are checked here, whole columns at a time. A violation names the table, the row (0-based) and the column.
At most `MAX_LISTED` violations are listed per rule, with the count of the rest: a broken million-row file
should answer with a page, not with a million lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import (
    MAX_CERTIFICATIONS,
    MAX_GPUS_PER_NODE,
    MAX_NODES,
    MAX_PRICE_MICRO_USD_PER_GPU_HOUR,
    MAX_RTT_MS,
    MAX_TEXT_LENGTH,
)
from engine.domain.tiers import ConnectivityTier, Interconnect, NodeState, SecurityTier

STRINGS = pl.List(pl.String)

FLEET_SCHEMA: dict[str, pl.DataType] = {
    "node_id": pl.String(),
    "supplier_id": pl.String(),
    "gpu_model": pl.String(),
    "gpu_count": pl.Int64(),
    "gpu_free": pl.Int64(),
    "site_id": pl.String(),
    "region": pl.String(),
    "country": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
    "security_tier": pl.String(),
    "certifications": STRINGS,
    "connectivity_tier": pl.String(),
    "reliability": pl.Float64(),
    "ask_micro_usd_per_gpu_hour": pl.Int64(),
    "interconnect": pl.String(),
    "fabric_id": pl.String(),
    "state": pl.String(),
}
RTT_SCHEMA: dict[str, pl.DataType] = {"site_a": pl.String(), "site_b": pl.String(), "rtt_ms": pl.Float64()}
REQUESTS_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "tenant_id": pl.String(),
    "submitted_at_us": pl.Int64(),
    "gpu_models": STRINGS,
    "allow_mixed_models": pl.Boolean(),
    "gpu_count": pl.Int64(),
    "gpus_per_node": pl.Int64(),
    "regions": STRINGS,
    "countries": STRINGS,
    "sites": STRINGS,
    "excluded_regions": STRINGS,
    "excluded_countries": STRINGS,
    "excluded_sites": STRINGS,
    "client_latitude": pl.Float64(),
    "client_longitude": pl.Float64(),
    "client_site": pl.String(),
    "max_client_rtt_ms": pl.Float64(),
    "max_cluster_rtt_ms": pl.Float64(),
    "min_security_tier": pl.String(),
    "certifications": STRINGS,
    "min_connectivity_tier": pl.String(),
    "min_interconnect": pl.String(),
    "same_fabric": pl.Boolean(),
    "min_reliability": pl.Float64(),
    "allowed_suppliers": STRINGS,
    "excluded_suppliers": STRINGS,
    "max_supplier_share": pl.Float64(),
    "duration_s": pl.Int64(),
    "max_price_micro_usd_per_gpu_hour": pl.Int64(),
    "interruptible": pl.Boolean(),
}
OPTIONAL_FLEET_COLUMNS = {"certifications", "fabric_id"}
MAX_LISTED = 20


def read_table(path: Path, schema: dict[str, pl.DataType], optional: set[str] = frozenset()) -> pl.DataFrame:  # type: ignore[assignment]
    """Read one Parquet file and shape it to `schema`; InvalidInput names the file and what is wrong."""
    try:
        frame = pl.read_parquet(path)
    except FileNotFoundError:
        raise InvalidInput([Violation(path.name, "no such file")]) from None
    except (OSError, pl.exceptions.PolarsError):
        raise InvalidInput([Violation(path.name, "is not a readable Parquet file")]) from None
    return shape(frame, schema, path.name, optional)


def shape(
    frame: pl.DataFrame, schema: dict[str, pl.DataType], table: str, optional: Iterable[str] = ()
) -> pl.DataFrame:
    """Put the columns of `schema` in order; a missing optional one becomes null, other columns are dropped.

    Integers may arrive in any width and all-null columns in any type; nothing else is cast.
    """
    violations, columns, optional = [], [], set(optional)
    for name, dtype in schema.items():
        if name not in frame.columns:
            if name in optional:
                columns.append(pl.lit(None, dtype=dtype).alias(name))
            else:
                violations.append(Violation(f"{table} column {name}", "is missing"))
        elif _fits(frame.schema[name], dtype):
            columns.append(pl.col(name).cast(dtype, strict=False))
        else:
            violations.append(
                Violation(f"{table} column {name}", f"has type {frame.schema[name]}, expected {dtype}")
            )
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
    violations = [violation for rule in _fleet_rules(frame) for violation in _listed(frame, table, *rule)]
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
    rules = [
        *(_text_rule(column) for column in ("site_a", "site_b")),
        _range_rule("rtt_ms", 0.0, MAX_RTT_MS),
        (
            "rtt_ms",
            (pl.col("site_a") == pl.col("site_b")) & (pl.col("rtt_ms") != 0),
            "one site is 0 ms from itself",
        ),
    ]
    violations = [violation for rule in rules for violation in _listed(frame, table, *rule)]
    if violations:
        raise InvalidInput(violations)


Rule = tuple[str, pl.Expr, str]


def _fleet_rules(frame: pl.DataFrame) -> Iterator[Rule]:
    for column in ("node_id", "supplier_id", "gpu_model", "site_id", "region"):
        yield _text_rule(column)
    yield "node_id", pl.col("node_id").is_duplicated() & pl.col("node_id").is_not_null(), "is a duplicate"
    yield _range_rule("gpu_count", 1, MAX_GPUS_PER_NODE)
    yield _range_rule("gpu_free", 0, MAX_GPUS_PER_NODE)
    yield "gpu_free", pl.col("gpu_free") > pl.col("gpu_count"), "is more than gpu_count"
    yield _range_rule("latitude", -90.0, 90.0)
    yield _range_rule("longitude", -180.0, 180.0)
    yield _range_rule("reliability", 0.0, 1.0)
    yield _range_rule("ask_micro_usd_per_gpu_hour", 1, MAX_PRICE_MICRO_USD_PER_GPU_HOUR)
    country = pl.col("country")
    yield (
        "country",
        country.is_null() | ~country.str.contains(r"^[A-Z]{2}$"),
        "is not an ISO 3166-1 alpha-2 code",
    )
    for column, names in (
        ("security_tier", SecurityTier),
        ("connectivity_tier", ConnectivityTier),
        ("interconnect", Interconnect),
        ("state", NodeState),
    ):
        known = list(names.__members__)
        yield (
            column,
            pl.col(column).is_null() | ~pl.col(column).is_in(known),
            f"is not one of {', '.join(known)}",
        )
    yield "fabric_id", _bad_text(pl.col("fabric_id")), _TEXT_RULE
    name = pl.element()
    unwell = pl.col("certifications").list.eval(name.is_null() | _bad_text(name) | name.str.contains(","))
    yield "certifications", unwell.list.any(), f"holds an entry that {_TEXT_RULE} or commas"
    for column in ("region", "country", "latitude", "longitude"):
        yield (
            column,
            pl.col(column).n_unique().over("site_id") > 1,
            "differs between nodes of the same site_id",
        )


_TEXT_RULE = f"must be 1 to {MAX_TEXT_LENGTH} printable characters without surrounding spaces"


def _bad_text(text: pl.Expr) -> pl.Expr:
    untidy = text.str.contains(r"[\p{C}\p{Zl}\p{Zp}]|^\s|\s$")
    return (text.str.len_chars() == 0) | (text.str.len_chars() > MAX_TEXT_LENGTH) | untidy


def _text_rule(column: str) -> Rule:
    return column, pl.col(column).is_null() | _bad_text(pl.col(column)), _TEXT_RULE


def _range_rule(column: str, low: float, high: float) -> Rule:
    value = pl.col(column)
    outside = value.is_null() | ~value.is_between(low, high)
    if isinstance(low, float):
        outside = outside | value.is_nan()
    return column, outside, f"must be between {low:,} and {high:,}"


def _listed(frame: pl.DataFrame, table: str, column: str, broken: pl.Expr, rule: str) -> list[Violation]:
    rows = frame.select(broken.fill_null(False).arg_true()).to_series()
    where = f"{table} row {{}} column {column}"
    values = frame[column].gather(rows.head(MAX_LISTED)).to_list()
    listed = [
        Violation(where.format(row), f"{_shown(value)} {rule}")
        for row, value in zip(rows.head(MAX_LISTED), values, strict=True)
    ]
    if rows.len() > MAX_LISTED:
        listed.append(Violation(f"{table} column {column}", f"{rows.len() - MAX_LISTED} more rows: {rule}"))
    return listed


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
