"""What runs now must be possible before anything is planned around it (docs/planning.md, rule 3)."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from engine.domain.errors import InvalidInput
from engine.domain.tables import PLACEMENTS_SCHEMA, check_placement_rows, check_placements

FLEET = pl.DataFrame({"node_id": ["a", "b", "c"], "gpu_count": [8, 8, 8], "gpu_free": [0, 4, 8]})
REQUESTS = pl.DataFrame({"request_id": ["r", "s"], "gpu_count": [8, 4], "gpus_per_node": [4, None]})
GOOD = [("r", "a", 4, True), ("r", "b", 4, False), ("s", "a", 4, True)]


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
        (("r", "a", 0, True), "row 0 column gpus"),
        (("r", "a", None, True), "row 0 column gpus"),
        (("r", "a", 4, None), "row 0 column movable"),
        ((None, "a", 4, True), "row 0 column request_id"),
        (("r", "", 4, True), "row 0 column node_id"),
        (("r", "b", 4, True), "row 0 column node_id"),  # a second row of r on b
        (("q", "a", 4, True), "row 0 column request_id"),  # nobody knows q
        (("r", "z", 4, True), "row 0 column node_id"),  # nobody knows z
        (("r", "a", 3, True), "row 0 column gpus"),  # three quarters of a replica
        (("r", "a", 8, True), "row 0 column request_id"),  # 12 GPUs of 8
        (("r", "c", 4, True), "row 0 column node_id"),  # all of c is free
    ],
)
def test_each_bad_row_is_named(row: tuple[Any, ...], field: str) -> None:
    assert field in fields_of([row, *GOOD[1:]])
