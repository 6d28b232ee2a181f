"""An engine that verifies tokens, with a fleet, in a process of its own; and tokens for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import LISTENING, ROOT
from benchmarks.registry import SEED
from engine.cli.connection import Connection
from engine.cli.fleet_load import Inventory, load_inventory
from engine.datasets.synthetic import synthetic_fleet, synthetic_rtt
from engine.trust.issuing import JWKS, issue, make_keys
from engine.trust.principal import Role

ISSUER, AUDIENCE, CLAIM_PREFIX, TTL_S = "benchmark", "walras", "walras_", 3_600


@dataclass(frozen=True, slots=True)
class Guarded:
    """A running engine that believes the keys in `folder`."""

    folder: Path
    target: str
    pid: int

    def token(self, role: Role, name: str) -> str:
        """A token of an hour."""
        return issue(self.folder / "keys", role, name, ISSUER, AUDIENCE, TTL_S, CLAIM_PREFIX)


@contextmanager
def guarded_engine(folder: Path, gpus: int, core: int | None = None) -> Iterator[Guarded]:
    """An engine with a synthetic fleet, on one core if that is said."""
    make_keys(folder / "keys")
    config = folder / "config.toml"
    config.write_text("[ledger]\nrequire_deposit = false\n")  # what is measured here is not money
    command = [sys.executable, "-m", "engine.cli", "serve", "--listen", "127.0.0.1:0", "--config", str(config)]
    command += ["--data-dir", str(folder / "data"), "--auth-jwks", str(folder / "keys" / JWKS)]
    command += ["--auth-issuer", ISSUER, "--auth-audience", AUDIENCE]
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        target = process.stdout.readline().removeprefix(LISTENING).strip()
        engine = Guarded(folder, target, process.pid)
        load_inventory(Connection(target, token=engine.token(Role.OPERATOR, "root")), _inventory(gpus))
        if core is not None:
            _pin_threads(process.pid, core)
        yield engine
    finally:
        process.terminate()
        process.wait(60)


def _inventory(gpus: int) -> Inventory:
    fleet = synthetic_fleet(gpus, SEED)
    return Inventory(fleet, synthetic_rtt(fleet, SEED))


def _pin_threads(pid: int, core: int) -> None:
    """Threads that were started before their process was pinned."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def bearer(token: str) -> Any:
    """The metadata of a call."""
    return (("authorization", f"Bearer {token}"),)
