from pathlib import Path

import polars as pl
import pytest

from engine.datasets.world import WorldSummary, write_whole, write_world
from engine.domain.errors import InvalidInput
from engine.domain.tables import FLEET_SCHEMA, REQUESTS_SCHEMA, RTT_SCHEMA
from tests.datasets.laws import exact_schema

FILES = {"fleet.parquet": FLEET_SCHEMA, "rtt.parquet": RTT_SCHEMA, "requests.parquet": REQUESTS_SCHEMA}


def _write(out: Path, data_dir: Path | None = None, **changed: int) -> WorldSummary:
    asked = {"gpus": 5_000, "requests": 200, "seed": 3} | changed
    return write_world(
        out,
        gpus=asked["gpus"],
        requests=asked["requests"],
        seed=asked["seed"],
        data_dir=data_dir,
        load=0.7,
        progress=lambda _: None,
    )


def test_a_world_is_three_files_and_nothing_else(tmp_path: Path) -> None:
    summary = _write(tmp_path / "deep" / "world")
    assert {path.name for path in (tmp_path / "deep" / "world").iterdir()} == set(FILES)
    for name, schema in FILES.items():
        assert exact_schema(pl.read_parquet(tmp_path / "deep" / "world" / name), schema)
    assert (summary.gpus, summary.requests) == (5_000, 200)
    assert summary.load == pytest.approx(0.7, rel=0.05)


def test_same_seed_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _write(tmp_path / name)
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_real_world_is_written_too(tmp_path: Path, data_dir: Path) -> None:
    summary = _write(tmp_path, data_dir)
    assert summary.gpus == 5_000
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_progress_speaks_before_each_step(tmp_path: Path) -> None:
    said: list[str] = []
    write_world(tmp_path, gpus=100, requests=5, seed=1, data_dir=None, load=None, progress=said.append)
    assert [line.split()[0] for line in said] == ["building", "drawing", "writing"]


@pytest.mark.parametrize("changed", [{"gpus": 0}, {"requests": -1}, {"seed": -1}])
def test_arguments_out_of_range_are_refused_and_nothing_is_written(
    tmp_path: Path, changed: dict[str, int]
) -> None:
    with pytest.raises(InvalidInput, match=next(iter(changed))):
        _write(tmp_path / "world", None, **changed)
    assert not (tmp_path / "world").exists()


def test_a_data_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="data"):
        _write(tmp_path / "world", tmp_path / "absent")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InvalidInput, match="out"):
        _write(tmp_path / "taken")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet.parquet"
    write_whole(pl.DataFrame({"a": [1]}), path)
    before = path.read_bytes()
    with pytest.raises(pl.exceptions.PolarsError):
        write_whole(pl.DataFrame({"a": [object()]}, schema={"a": pl.Object}), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["fleet.parquet"]
