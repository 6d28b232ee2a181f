"""What runs now must be possible before anything is planned around it (docs/planning.md, rule 3)."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from engine.domain.errors import InvalidInput
from engine.domain.tables import PLACEMENTS_SCHEMA, check_placement_rows, check_placements

FLEET = pl.DataFrame(
    {
        "node_id": ["a", "b", "c", "d"],
        "gpu_count": [8, 8, 8, 2],
        "gpu_free": [0, 4, 8, 1],
        "cpu_milli": [None, None, None, 900],
        "memory_mib": [None, None, None, None],
    },
    schema_overrides={"cpu_milli": pl.Int64, "memory_mib": pl.Int64},
)
REQUESTS = pl.DataFrame(
    {
        "request_id": ["r", "s", "p", "q"],
        "gpu_count": [8, 4, 1, 1],
        "gpus_per_node": [4, None, None, None],
        "gpu_milli": [None, 1_000, 600, 400],
        "cpu_milli": [None, None, 500, 400],
        "memory_mib": [None, None, None, None],
    },
    schema_overrides={"memory_mib": pl.Int64},
)
GOOD: list[tuple[Any, ...]] = [
    ("r", "a", 4, True, None),
    ("r", "b", 4, False, None),
    ("s", "a", 4, True, None),
    ("p", "d", 1, True, 1),
    ("q", "d", 1, False, 1),
]


def fields_of(rows: list[tuple[Any, ...]]) -> set[str]:
    frame = pl.DataFrame(rows, schema=PLACEMENTS_SCHEMA, orient="row")
    try:
        check_placements(frame, FLEET, REQUESTS)
    except InvalidInput as error:
        return {violation.field.removeprefix("placements.parquet ") for violation in error.violations}
    return set()


def test_sound_placements_pass() -> None:
    assert fields_of(GOOD) == set()
    check_placement_rows(pl.DataFrame(schema=PLACEMENTS_SCHEMA))


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (("r", "a", 0, True, None), "row 0 column gpus"),
        (("r", "a", None, True, None), "row 0 column gpus"),
        (("r", "a", 4, None, None), "row 0 column movable"),
        ((None, "a", 4, True, None), "row 0 column request_id"),
        (("r", "", 4, True, None), "row 0 column node_id"),
        (("r", "b", 4, True, None), "row 0 column node_id"),  # a second row of r on b
        (("t", "a", 4, True, None), "row 0 column request_id"),  # nobody knows t
        (("r", "z", 4, True, None), "row 0 column node_id"),  # nobody knows z
        (("r", "a", 3, True, None), "row 0 column gpus"),  # three quarters of a replica
        (("r", "a", 8, True, None), "row 0 column request_id"),  # 12 GPUs of 8
        (("r", "c", 4, True, None), "row 0 column node_id"),  # all of c is free
    ],
)
def test_each_bad_row_is_named(row: tuple[Any, ...], field: str) -> None:
    assert field in fields_of([row, *GOOD[1:]])


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (("q", "d", 1, False, None), "row 4 column card"),  # which card?
        (("q", "d", 1, False, 2), "row 4 column card"),  # d has two
        (("q", "d", 1, False, 0), "row 3 column node_id"),  # one of two is free
        (("q", "c", 1, False, 0), "row 4 column node_id"),  # all of c is free
        (("r", "b", 4, False, 1), "row 4 column card"),  # whole GPUs
    ],
)
def test_each_bad_part_is_named(row: tuple[Any, ...], column: str) -> None:
    rows = GOOD[:4] if row[0] != "r" else [GOOD[0], *GOOD[2:4], ("q", "d", 1, False, 1)]
    assert column in fields_of([*rows, row])


def test_a_card_and_the_cpu_of_a_node_are_not_run_twice() -> None:
    crowded = REQUESTS.with_columns(gpu_milli=pl.Series([None, 1_000, 601, 400]))
    busy = REQUESTS.with_columns(cpu_milli=pl.Series([None, None, 501, 400]))
    frame = pl.DataFrame(GOOD, schema=PLACEMENTS_SCHEMA, orient="row")
    for requests, column in ((crowded, "card"), (busy, "node_id")):
        with pytest.raises(InvalidInput, match=column):
            check_placements(frame, FLEET, requests)
