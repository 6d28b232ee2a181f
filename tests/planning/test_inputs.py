"""All violations of all files at once, and the bytes that were read are the bytes that are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from engine.domain.errors import InvalidInput
from engine.planning.inputs import InputPaths, read_inputs
from tests.planning.queues import queue_with_running_work


@pytest.fixture
def paths(tmp_path: Path) -> InputPaths:
    return queue_with_running_work().files(tmp_path)


def fields_of(paths: InputPaths) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        read_inputs(paths)
    return {violation.field for violation in caught.value.violations}


def edit(path: Path | None, column: str, row: int, value: object) -> None:
    assert path is not None
    frame = pl.read_parquet(path)
    values = frame[column].to_list()
    values[row] = value
    frame.with_columns(pl.Series(column, values, dtype=frame.schema[column])).write_parquet(path)


def test_what_is_read_is_kept(paths: InputPaths) -> None:
    inputs = read_inputs(paths)
    assert inputs.contents["fleet.parquet"] == paths.fleet.read_bytes()
    assert set(inputs.contents) == {"fleet.parquet", "requests.parquet", "rtt.parquet", "placements.parquet"}


def test_files_that_are_not_given_are_empty(paths: InputPaths) -> None:
    queue = queue_with_running_work()
    alone = replace(paths, rtt=None, placements=None)
    pl.read_parquet(paths.requests).with_columns(client_site=None, max_client_rtt_ms=None).write_parquet(
        paths.requests
    )
    inputs = read_inputs(alone)
    assert inputs.rtt.is_empty() and inputs.placements.is_empty()
    assert inputs.fleet.height == len(queue.fleet) and set(inputs.contents) == {
        "fleet.parquet",
        "requests.parquet",
    }


def test_every_file_names_its_own_violations(paths: InputPaths) -> None:
    """Law 9: never only the first."""
    edit(paths.fleet, "state", 3, "ready")
    edit(paths.requests, "gpu_count", 2, -1)
    edit(paths.rtt, "rtt_ms", 0, float("nan"))
    assert fields_of(replace(paths, placements=paths.fleet.with_name("none.parquet"))) == {
        "fleet.parquet row 3 column state",
        "requests.parquet row 2 column gpu_count",
        "rtt.parquet row 0 column rtt_ms",
        "none.parquet",
    }


def test_files_that_contradict_each_other(paths: InputPaths) -> None:
    edit(paths.requests, "client_latitude", 4, None)
    edit(paths.requests, "client_longitude", 4, None)
    edit(paths.requests, "client_site", 4, "atlantis")
    edit(paths.placements, "node_id", 0, "atlantis")
    assert {"requests.parquet row 4 column client_site", "placements.parquet row 0 column node_id"} <= fields_of(
        paths
    )


@pytest.mark.parametrize("damage", ["absent", "empty", "garbage", "torn", "directory"])
def test_a_file_that_cannot_be_read_is_named(paths: InputPaths, damage: str) -> None:
    content = paths.requests.read_bytes()
    paths.requests.unlink()
    if damage == "directory":
        paths.requests.mkdir()
    elif damage != "absent":
        contents = {"empty": b"", "garbage": b"PAR1 is no Parquet", "torn": content[: len(content) // 2]}
        paths.requests.write_bytes(contents[damage])
    assert fields_of(paths) == {"requests.parquet"}


def test_bytes_turned_over_inside_a_file_never_crash_the_reader(paths: InputPaths) -> None:
    """Law 9: nothing crashes. Damaged pages can make the Parquet reader panic."""
    content = paths.fleet.read_bytes()
    for position in range(4, len(content), len(content) // 60):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        paths.fleet.write_bytes(damaged)
        try:
            read_inputs(paths)
        except InvalidInput as error:
            assert error.violations


def test_missing_and_mistyped_columns_are_named(paths: InputPaths) -> None:
    frame = pl.read_parquet(paths.requests)
    frame.drop("duration_s").with_columns(gpu_count=pl.lit("8")).write_parquet(paths.requests)
    assert fields_of(paths) == {"requests.parquet column duration_s", "requests.parquet column gpu_count"}
