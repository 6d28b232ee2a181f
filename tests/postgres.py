"""Throw-away PostgreSQL clusters on a Unix socket: found, made, started, paused, killed, removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

WAIT_S = 60.0
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "wal_level": "replica",
    "autovacuum": "off",
    "log_min_messages": "log",
}


def binaries() -> Path:
    """The directory of PostgreSQL's server programs; skips where there are none, fails in CI."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        reason = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found[-1].parent if found else Path(str(on_path)).parent


def as_its_user(*command: object) -> list[str]:
    """The command, as a user that is not root: PostgreSQL refuses root."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    return [*prefix, *map(str, command)]


class Cluster:
    """One PostgreSQL server with a directory of its own; trusts everybody on its socket."""

    def __init__(self, place: Path, **settings: str) -> None:
        self.place, self.settings = place, SETTINGS | settings
        self.data, self._bin = place / "data", binaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        place.mkdir(mode=0o755, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(place, "postgres")

    def initialise(self) -> None:
        """Make an empty cluster."""
        self._run(
            "initdb", "--no-sync", "-A", "trust", "-U", "walras", "--no-locale", "-E", "UTF8", "-D", self.data
        )

    def copy_from(self, primary: Cluster, name: str) -> None:
        """Become a standby of another cluster, to be known there by this name."""
        self._run("pg_basebackup", "--no-sync", "-R", "-h", primary.place, "-U", "walras", "-D", self.data)
        with (self.data / "postgresql.auto.conf").open("a") as file:
            conninfo = f"host={primary.place} user=walras application_name={name}"
            file.write(f"\nprimary_conninfo = '{conninfo}'\n")

    def start(self) -> None:
        """Run the server until it takes connections."""
        settings = [f"-c{name}={value}" for name, value in self.settings.items()]
        command = as_its_user(self._bin / "postgres", "-D", self.data, "-k", self.place, *settings)
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        ends_s = time.monotonic() + WAIT_S
        while time.monotonic() < ends_s and self._process.poll() is None:
            try:
                self.sql("SELECT 1")
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise AssertionError((self.place / "log").read_text())

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def crash(self) -> None:
        """End it at once and without a checkpoint: the next start recovers from its log. Can be called again."""
        if self._process is not None and self.is_running:
            os.kill(self.pid, signal.SIGQUIT)
            self._process.wait(WAIT_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its processes; for SIGSTOP and SIGCONT."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in (self.pid, *map(int, children)):
            os.kill(pid, number)

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "promote", "-w", "-D", self.data)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own."""
        conninfo = f"host={self.place} user=walras dbname=postgres"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

    def new_url(self) -> str:
        """Of an empty place for a journal, for Walras: a schema of its own, made faster than a database."""
        name = f"journal_{next(self._numbers)}"
        self.sql(f"CREATE SCHEMA {name}")
        return f"postgresql://walras@/postgres?host={self.place}&options=-csearch_path%3D{name}"

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            as_its_user(self._bin / program, *arguments), capture_output=True, text=True, timeout=WAIT_S
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def cluster(**settings: str) -> Iterator[Cluster]:
    """A running cluster that leaves nothing behind."""
    place = Path(tempfile.mkdtemp(prefix="walras-pg-"))
    made = Cluster(place, **settings)
    try:
        made.initialise()
        made.start()
        yield made
    finally:
        made.crash()
        shutil.rmtree(place, ignore_errors=True)
