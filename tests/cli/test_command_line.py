"""The command without an engine: quick to start, clear about what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from engine.cli.bare_options import with_bare_values
from tests.cli.conftest import Walras, fleet_frame, node

HEAVY = ("grpc", "polars", "numba", "numpy", "ortools", "sqlalchemy", "engine.service", "engine.datasets")
NOBODY = "127.0.0.1:1"


def test_starting_imports_nothing_heavy() -> None:
    script = f"import sys, engine.cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_of_every_command(walras: Walras) -> None:
    top = walras("--help")
    assert top.code == 0
    commands = ["serve", "warmup", "world", "demo", "quote", "deploy", "explain", "price", "plan", "top"]
    groups = ["lease get", "lease list", "lease release", "fleet load", "journal verify"]
    for command in [*commands, *groups]:
        assert walras(*command.split(), "--help").code == 0, command
        assert command.split()[0] in top.out


@pytest.mark.parametrize("wrong", [["nothing"], ["lease", "get"], ["deploy", "--gpus"], ["price", "--what"]])
def test_a_command_line_that_is_wrong_is_bad_input(walras: Walras, wrong: list[str]) -> None:
    run = walras(*wrong)
    assert run.code == 2 and run.out == "" and run.err


@pytest.mark.parametrize(
    "command",
    [
        "quote --gpu-count 8",
        "deploy --gpu-count 8 --json",
        "explain --gpu-count 8",
        "lease list",
        "lease get x",
        "lease release x",
        "price",
        "top",
        "deploy --quote q",
    ],
)
def test_no_engine_is_exit_3(walras: Walras, command: str) -> None:
    run = walras(*command.split(), "--target", NOBODY)
    assert run.code == 3 and run.out == ""
    assert NOBODY in run.err and "walras serve" in run.err


def test_bad_fields_are_listed_before_any_call(walras: Walras) -> None:
    run = walras("deploy", "--gpu-count", 0, "--country", "DE", "--excluded-country", "DE", "--target", NOBODY)
    assert run.code == 2 and "gpu_count" in run.err
    run = walras("quote", "--gpu-count", 10, "--gpus-per-node", 4, "--country", "DE", "--excluded-country", "DE")
    assert run.code == 2 and "gpus_per_node" in run.err and "excluded_countries" in run.err


def test_a_quote_stands_alone(walras: Walras) -> None:
    run = walras("deploy", "--quote", "quotes/q", "--gpu-count", 8, "--target", NOBODY)
    assert run.code == 2 and "--quote" in run.err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("price estimate A10", "--gpus"),
        ("price estimate A10", "--hold-s"),
        ("price estimate A10", "--hours"),
        ("price", "--back-hours"),
        ("price indicative --gpu-count 1", "--deadline-ms"),
        ("quote --gpu-count 1", "--ttl-s"),
        ("quote --gpu-count 1", "--hours"),
        ("quote --gpu-count 1", "--budget-micro-usd"),
        ("order place --gpu-count 1 --max-price-micro-usd-per-gpu-hour 1", "--ttl-s"),
        ("order place --gpu-count 1 --max-price-micro-usd-per-gpu-hour 1", "--priority"),
        ("order place --gpu-count 1 --max-price-micro-usd-per-gpu-hour 1", "--retry-on-loss-s"),
        ("order watch", "--after-version"),
        ("lease watch", "--after-version"),
        ("lease extend x", "--hours"),
        ("lease extend x", "--duration-s"),
        ("lease extend x --hours 1", "--max-amount-micro-usd"),
        ("lease shrink x", "--replicas"),
    ],
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_number_that_no_message_holds_is_bad_input(walras: Walras, command: str, option: str, sign: str) -> None:
    """Law: what cannot be sent is refused by its name before any call."""
    values = ("1e300", "inf", "nan") if "hours" in option else ("99999999999999999999",)
    for value in values:
        run = walras(*command.split(), f"{option}={sign}{value}", "--target", NOBODY)
        assert run.code == 2 and run.out == "", value
        named = option.strip("-").replace("-", "_")
        assert option in run.err or named in run.err or "duration_s" in run.err


@pytest.mark.parametrize("text", ["ünï ☃", "a\nb", "\udcff"])
def test_a_credential_that_metadata_cannot_carry_is_bad_input(
    walras: Walras, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    run = walras("lease", "list", "--tenant", text, "--target", NOBODY)
    assert run.code == 2 and "--tenant" in run.err
    monkeypatch.setenv("WALRAS_TOKEN", f"secret{text}")
    run = walras("lease", "list", "--target", NOBODY)
    assert run.code == 2 and "WALRAS_TOKEN" in run.err and "secret" not in run.err


@pytest.mark.parametrize("command", ["price", "price --watch", "price estimate A10", "price curve A10 --region x"])
@pytest.mark.parametrize("tier", ["foo", "secure"])
def test_a_tier_that_there_is_not_is_bad_input(walras: Walras, command: str, tier: str) -> None:
    """Law: a name that cannot be is not an empty answer."""
    run = walras(*command.split(), "--security-tier", tier, "--target", NOBODY)
    assert run.code == 2 and "--security-tier" in run.err and "CONFIDENTIAL" in run.err


def test_every_violation_of_both_tables_is_listed(walras: Walras, tmp_path: Path) -> None:
    fleet, rtt = tmp_path / "fleet.parquet", tmp_path / "rtt.parquet"
    fleet_frame([node("a"), node("a", gpu_free=9, reliability=float("nan"))]).write_parquet(fleet)
    pl.DataFrame({"site_a": ["x"], "site_b": ["y"], "rtt_ms": [-1.0]}).write_parquet(rtt)
    run = walras("fleet", "load", fleet, "--rtt", rtt, "--target", NOBODY)
    assert run.code == 2 and run.out == ""
    for said in (
        "fleet.parquet row 0 column node_id",
        "fleet.parquet row 1 column gpu_free",
        "fleet.parquet row 1 column reliability",
        "rtt.parquet row 0 column rtt_ms",
    ):
        assert said in run.err


def test_a_file_that_is_no_table_is_bad_input(walras: Walras, tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really PAR1")
    assert walras("fleet", "load", broken).code == 2
    assert "no such file" in walras("fleet", "load", tmp_path / "none.parquet").err
    text = tmp_path / "text.parquet"
    fleet_frame([node("a")]).with_columns(pl.lit("eight").alias("gpu_count")).drop("region").write_parquet(text)
    run = walras("fleet", "load", text)
    assert run.code == 2 and "column gpu_count" in run.err and "column region" in run.err


def test_options_that_may_stand_bare() -> None:
    assert with_bare_values(["world", "--real"]) == ["world", "--real="]
    assert with_bare_values(["world", "--real", "--seed", "1"]) == ["world", "--real=", "--seed", "1"]
    assert with_bare_values(["world", "--real", "DIR", "--seed"]) == ["world", "--real", "DIR", "--seed"]
    assert with_bare_values(["world", "--real=DIR"]) == ["world", "--real=DIR"]
    assert with_bare_values([]) == []


def test_a_world_is_written(walras: Walras, tmp_path: Path) -> None:
    out = tmp_path / "world"
    run = walras("world", "--gpus", 2_000, "--requests", 20, "--seed", 1, "--load", 0.5, "--out", out, "--json")
    assert run.code == 0 and run.out.startswith("{")
    assert sorted(path.name for path in out.iterdir()) == ["fleet.parquet", "requests.parquet", "rtt.parquet"]
    assert pl.read_parquet(out / "fleet.parquet")["gpu_count"].sum() == 2_000


def test_a_real_world_needs_data(walras: Walras, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALRAS_DATA", raising=False)
    size = ("--gpus", 2_000, "--requests", 20, "--seed", 1, "--out", tmp_path / "world")
    run = walras("world", "--real", *size)
    assert run.code == 2 and "$WALRAS_DATA" in run.err
    run = walras("world", *size, "--real", tmp_path / "none")
    assert run.code == 2 and "is not a directory" in run.err
    monkeypatch.setenv("WALRAS_DATA", str(tmp_path / "unset"))
    assert "$WALRAS_DATA" in walras("world", *size, "--real").err
    assert not (tmp_path / "world").exists()


def test_the_demo_says_which_fleets_are_too_small(walras: Walras) -> None:
    assert walras("demo", "--gpus", 10).code == 2


@pytest.mark.parametrize("listen", ["nowhere", "0.0.0.0:7070", "127.0.0.1:99999"])
def test_an_engine_in_dev_mode_listens_on_loopback_only(walras: Walras, tmp_path: Path, listen: str) -> None:
    run = walras("serve", "--dev", "--listen", listen, "--data-dir", tmp_path / "data")
    assert run.code == 2 and "listen" in run.err
    assert not (tmp_path / "data").exists()


def test_settings_come_from_a_file_below_the_command_line(tmp_path: Path) -> None:
    from engine.cli.serving import server_options

    config = tmp_path / "walras.toml"
    config.write_text('listen = "127.0.0.1:1234"\ndrain_s = 1\n')
    assert server_options(config).listen == "127.0.0.1:1234"
    options = server_options(config, listen="127.0.0.1:0", data_dir=tmp_path, dev=True)
    assert (options.listen, options.data_dir, options.dev, options.drain_s) == ("127.0.0.1:0", tmp_path, True, 1)


def test_settings_that_do_not_exist_are_bad_input(walras: Walras, tmp_path: Path) -> None:
    config = tmp_path / "walras.toml"
    config.write_text("colour = 'red'\n")
    run = walras("serve", "--config", config, "--data-dir", tmp_path / "data")
    assert run.code == 2 and "walras.toml colour" in run.err


def test_loading_into_no_engine_is_exit_3(walras: Walras, fleet_file: Path) -> None:
    run = walras("fleet", "load", fleet_file, "--target", NOBODY)
    assert run.code == 3 and run.out == "" and NOBODY in run.err
