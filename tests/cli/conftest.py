"""What the tests of the command line share: running a command in this process, and one engine for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.cli.main import main
from engine.cli.server_process import server_process
from engine.domain.tables import FLEET_SCHEMA


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str


Walras = Callable[..., Run]


@pytest.fixture
def walras(capsys: pytest.CaptureFixture[str]) -> Walras:
    """Run a command; arguments are turned into text."""

    def run(*arguments: object) -> Run:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Run(int(code), said.out, said.err)

    return run


@contextmanager
def engine_with(settings: str, place: Path) -> Iterator[str]:
    """An engine in dev mode with settings in TOML, empty at first, its files in `place`."""
    config = place / "engine.toml"
    config.write_text(settings)
    with server_process(place / "data", place / "engine.log", "--config", str(config)) as server:
        yield server.target()


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One engine for all tests; its process ends with the session. Without an oracle, or the clock of the machine
    would change prices between two commands, or within one.
    """
    with engine_with("oracle_tick_s = 0\n", tmp_path_factory.mktemp("engine")) as target:
        yield target


def node(node_id: str, **other: Any) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "supplier_id": "s0",
        "gpu_model": "H100",
        "gpu_count": 8,
        "gpu_free": 8,
        "site_id": "iad-1",
        "region": "us-east",
        "country": "US",
        "latitude": 39.0,
        "longitude": -77.5,
        "security_tier": "SECURE",
        "certifications": ["SOC2"],
        "connectivity_tier": "HIGH",
        "reliability": 0.99,
        "ask_micro_usd_per_gpu_hour": 1_700_000,
        "interconnect": "INFINIBAND",
        "fabric_id": "f0",
        "state": "READY",
    } | other


def fleet_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=FLEET_SCHEMA)


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    """Forty nodes of eight H100: thirty near Washington, ten in Frankfurt."""
    abroad = {
        "site_id": "fra-1",
        "region": "de-central",
        "country": "DE",
        "latitude": 50.1,
        "longitude": 8.7,
    }
    rows = [node(f"n{number:03}", **(abroad if number % 4 == 3 else {})) for number in range(40)]
    path = tmp_path / "fleet.parquet"
    fleet_frame(rows).write_parquet(path)
    return path
