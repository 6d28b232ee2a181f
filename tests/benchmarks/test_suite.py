"""Every spec runs once, small: no figure is judged here, only that the suite works and names what it promises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.registry import FAMILIES, SIZES, SMALL, SMALL_FLEET, Family, small
from benchmarks.report import NOT_APPLICABLE, report
from benchmarks.suite import run
from tests.full_size import FULL

QUANTITIES = {
    "call_ms_p50",
    "call_ms_p99",
    "call_over_floor_of_p99s",
    "call_over_floor_p50",
    "call_over_floor_p99",
    "decision_after_idle_us_p50",
    "decision_us_p50",
    "decision_us_p99",
    "floor_ms_p50",
    "floor_ms_p99",
    "nodes",
    "server_audit_us_p50",
    "server_decision_us_p50",
}
SERVER_QUANTITIES = {
    "calls_peak_rss_mb",
    "load_peak_rss_mb",
    "load_s",
    "peak_rss_mb",
    "ready_peak_rss_mb",
    "ready_s",
}
NAMED = Path(os.environ.get("WALRAS_DATA") or "unset")
DATA_DIR = NAMED if NAMED.is_dir() else None
SMALL_FAMILIES = [small(family) for family in FAMILIES if FULL or family.world == "synthetic"]
"""The real world of a quick run is that of test_real_world.py."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suite")


@pytest.fixture(scope="module")
def results(place: Path) -> Iterator[dict[str, float]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(place))
        yield run(SMALL_FAMILIES, SMALL, DATA_DIR)


@pytest.mark.parametrize("family", SMALL_FAMILIES, ids=lambda family: family.name)
def test_a_request_that_fits_has_its_figures(results: dict[str, float], family: Family) -> None:
    if family.world == "real" and DATA_DIR is None:
        pytest.skip("WALRAS_DATA names no directory: the public data is not at hand")
    prefix = f"{family.name}.8@{SMALL_FLEET}."
    names = {key.removeprefix(prefix) for key in results if key.startswith(prefix)}
    assert names >= QUANTITIES


def test_a_request_larger_than_the_fleet_has_none(results: dict[str, float]) -> None:
    assert max(size.gpu_count for size in SIZES) > SMALL_FLEET
    assert not [key for key in results if f".10000@{SMALL_FLEET}" in key]


def test_the_server_has_its_figures(results: dict[str, float]) -> None:
    assert {f"server.{name}@{SMALL_FLEET}" for name in SERVER_QUANTITIES} <= results.keys()


def test_all_figures_are_numbers_above_zero(results: dict[str, float]) -> None:
    assert all(isinstance(value, float) and value > 0 for key, value in results.items() if "server_" not in key)


def test_the_report_shows_every_family_and_what_does_not_apply(results: dict[str, float]) -> None:
    text = report(results, SMALL_FAMILIES, SMALL)
    assert all(f"### `{family.name}`" in text for family in SMALL_FAMILIES if family.world == "synthetic")
    assert NOT_APPLICABLE in text


def test_nothing_temporary_stays(results: dict[str, float], place: Path) -> None:
    assert results
    assert list(place.iterdir()) == []
