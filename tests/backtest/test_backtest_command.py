"""`walras backtest`: the contract's JSON, the table, the picture, and a clear no without data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.backtest import demand_step
from engine.cli.main import main
from engine.cli.world_command import DATA_VARIABLE
from tests.backtest.test_metrics import TINY

CONTRACT_KEYS = {
    "dual_excess",
    "make_whole_share",
    "hours_up",
    "hours_down",
    "overshoot",
    "steady_cv",
    "stockout_share",
    "welfare_share",
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command plays a small market for three days."""
    monkeypatch.setattr(demand_step, "DemandStep", lambda: TINY)


def test_json_has_the_contracts_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Law: {policy: {metric: fraction}}, our policy is called oracle, and nothing but JSON is on stdout."""
    assert main(["backtest", "--scenario", "demand-step", "--seeds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["fixed", "occupancy", "oracle"]
    assert all(set(metrics) >= CONTRACT_KEYS for metrics in found.values())
    assert 0.5 < found["oracle"]["welfare_share"] < 1.5


def test_the_table_names_targets_and_the_picture_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Law: people see every policy beside its target, and what the oracle misses."""
    picture = tmp_path / "prices.svg"
    assert main(["backtest", "--seeds", "1", "--svg", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "≥ 98.50 %" in shown and "oracle" in shown
    assert picture.read_text(encoding="utf-8").startswith("<svg")


def test_trace_without_data_is_bad_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: exit 2 and one clear line."""
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert main(["backtest", "--scenario", "trace", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "$WALRAS_DATA" in said.err
