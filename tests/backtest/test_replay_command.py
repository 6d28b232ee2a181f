"""`walras replay openb`: the contract's JSON, the table, the picture, a clear no; and the published experiment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.backtest import sharing_runs
from engine.backtest.sharing_published import PUBLISHED
from engine.backtest.sharing_replay import TILED_TO, play
from engine.backtest.sharing_runs import OURS, POLICIES, make_policy
from engine.backtest.sharing_trace import openb_trace
from engine.cli.main import main
from engine.cli.world_command import DATA_VARIABLE
from engine.datasets.openb import PODS_FILE
from tests.backtest.sharing_worlds import small_pods, write_openb
from tests.full_size import size

ONE_PROCESS = ["--seeds", "2", "--workers", "1"]


def test_json_has_the_contracts_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Law: {policy: {"100": share, "130": share}}, ours is called walras, nothing but JSON on stdout."""
    data = str(write_openb(tmp_path))
    assert main(["replay", "openb", "--data", data, *ONE_PROCESS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert tuple(found) == POLICIES and OURS == "walras"
    assert all(list(shares) == ["100", "130"] for shares in found.values())
    assert all(0.5 < shares["100"] <= shares["130"] <= 1.0 for shares in found.values())


def test_the_table_and_the_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Law: people see every policy beside what was published, and a line for each in the picture."""
    data, picture = str(write_openb(tmp_path, "gpuspec33")), tmp_path / "shares.svg"
    command = ["replay", "openb", "--data", data, "--trace", "gpuspec33", *ONE_PROCESS, "--svg", str(picture)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert all(policy in shown for policy in POLICIES) and "87.84 %" in shown
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.startswith("<svg") and drawn.count("<polyline") == len(POLICIES)


def test_without_data_it_is_bad_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: exit 2 and one clear line."""
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert main(["replay", "openb", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "$WALRAS_DATA" in said.err


def test_a_directory_that_is_none_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Law: exit 2, the directory named."""
    assert main(["replay", "openb", "--data", str(tmp_path / "absent")]) == 2
    assert "absent is not a directory" in capsys.readouterr().err


def test_a_pod_that_breaks_a_rule_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Law: exit 2 with file, row and column."""
    data = write_openb(tmp_path)
    pods = small_pods(1).with_columns(gpu_milli=1_200)
    pods.write_parquet(data / PODS_FILE.format("default"))
    assert main(["replay", "openb", "--data", str(data), *ONE_PROCESS]) == 2
    assert "openb_pod_list_default.parquet row 0 column gpu_milli" in capsys.readouterr().err


def test_without_the_peers_it_says_where_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Law: an installation without the benchmarks gets exit 2 and a way out, not a traceback."""
    monkeypatch.setattr(sharing_runs, "PEERS_MODULE", "benchmarks.peers.absent")
    assert main(["replay", "openb", "--data", str(write_openb(tmp_path)), *ONE_PROCESS]) == 2
    assert "checkout of the repository" in capsys.readouterr().err


DATA = os.environ.get(DATA_VARIABLE)


@pytest.mark.skipif(not DATA, reason=f"${DATA_VARIABLE} names no folder of public traces")
@pytest.mark.parametrize("trace", PUBLISHED)
def test_the_published_experiment(trace: str) -> None:
    """Law: peers land at the published shares, so the replay is faithful; ours is above all of them."""
    world, seeds = openb_trace(Path(DATA or ""), trace), range(size(1, 10))
    means = {}
    for policy in ("random", "best fit", "fgd", OURS):
        shares = [play(world, make_policy(policy, s), world.arrivals(s, TILED_TO)) for s in seeds]
        means[policy] = [sum(played.share_at(level) for played in shares) / len(seeds) for level in (100, 130)]
    for policy in ("random", "best fit", "fgd"):
        tolerance = size(10, 5) / 1_000
        assert means[policy] == pytest.approx([p / 100 for p in PUBLISHED[trace][policy]], abs=tolerance)
        assert all(ours > theirs for ours, theirs in zip(means[OURS], means[policy], strict=True))
