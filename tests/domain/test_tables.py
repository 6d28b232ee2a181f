"""Files are checked whole: every broken rule is listed with row and column (law 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.datasets.synthetic import synthetic_fleet
from engine.domain.errors import InvalidInput
from engine.domain.tables import (
    FLEET_SCHEMA,
    OPTIONAL_FLEET_COLUMNS,
    RTT_SCHEMA,
    check_fleet,
    check_rtt,
    read_table,
    shape,
)

FLEET = synthetic_fleet(200, 3)


def broken(column: str, row: int, value: Any) -> pl.DataFrame:
    values = FLEET[column].to_list()
    values[row] = value
    return FLEET.with_columns(pl.Series(column, values, dtype=FLEET_SCHEMA[column], strict=False))


def test_a_sound_fleet_passes() -> None:
    check_fleet(FLEET)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("node_id", None),
        ("node_id", ""),
        ("node_id", "a\nb"),
        ("node_id", "x" * 129),
        ("gpu_model", " H100"),
        ("gpu_count", 0),
        ("gpu_count", 2**40),
        ("gpu_free", -1),
        ("gpu_free", 1_000),
        ("latitude", float("nan")),
        ("latitude", float("inf")),
        ("longitude", 180.5),
        ("country", "usa"),
        ("country", None),
        ("security_tier", "PARANOID"),
        ("connectivity_tier", None),
        ("interconnect", "WIFI"),
        ("state", "ready"),
        ("reliability", 1.01),
        ("reliability", float("nan")),
        ("ask_micro_usd_per_gpu_hour", 0),
        ("ask_micro_usd_per_gpu_hour", None),
        ("fabric_id", ""),
        ("certifications", ["SOC2", None]),
        ("cpu_milli", -1),
        ("memory_mib", 10**15),
    ],
)
def test_each_bad_cell_is_named_by_row_and_column(column: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_fleet(broken(column, 7, value))
    assert f"fleet.parquet row 7 column {column}" in [violation.field for violation in caught.value.violations]


def test_duplicates_and_moving_sites_are_named() -> None:
    twice = pl.concat([FLEET, FLEET.head(1)])
    with pytest.raises(InvalidInput, match="duplicate"):
        check_fleet(twice)
    with pytest.raises(InvalidInput, match="differs between nodes of the same site_id"):
        check_fleet(twice.with_columns(pl.Series("latitude", [*FLEET["latitude"].to_list(), 1.0])))


def test_files_that_are_missing_broken_or_of_other_types_say_so(tmp_path: Path) -> None:
    path = tmp_path / "fleet.parquet"
    with pytest.raises(InvalidInput, match=r"fleet\.parquet: no such file"):
        read_table(path, FLEET_SCHEMA)
    path.write_bytes(b"PAR1 this is no Parquet")
    with pytest.raises(InvalidInput, match="not a readable Parquet file"):
        read_table(path, FLEET_SCHEMA)
    FLEET.with_columns(pl.col("gpu_count").cast(pl.String)).drop("region").write_parquet(path)
    with pytest.raises(InvalidInput) as caught:
        read_table(path, FLEET_SCHEMA)
    assert {violation.field for violation in caught.value.violations} == {
        "fleet.parquet column gpu_count",
        "fleet.parquet column region",
    }


def test_missing_optional_columns_become_null() -> None:
    missing = OPTIONAL_FLEET_COLUMNS
    shaped = shape(FLEET.drop(missing), FLEET_SCHEMA, "fleet.parquet", missing)
    assert all(shaped[column].null_count() == FLEET.height for column in missing)


@pytest.mark.parametrize(
    "row", [("a", "b", float("nan")), ("a", "b", -1.0), ("a", None, 1.0), ("a", "a", 1.0), ("a", "b", None)]
)
def test_bad_rtt_rows_are_named(row: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidInput, match="row 1"):
        check_rtt(pl.DataFrame([("a", "b", 1.0), row], schema=RTT_SCHEMA, orient="row"))
