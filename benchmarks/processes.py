"""Servers as child processes: the engine as users start it, and the one with the floor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTENING = "listening "
STOP_TIMEOUT_S = 30.0
LOG_TAIL = 2_000


@dataclass(frozen=True, slots=True)
class Child:
    """A server that takes calls. `ready_s`: from its spawn to its `listening` line."""

    pid: int
    target: str
    ready_s: float

    def cpu_s(self) -> float:
        """CPU time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def pinned_beside_us(self) -> Iterator[None]:
        """It runs on one core and this process on another, if there are two."""
        cores = os.sched_getaffinity(0)
        self._run_on({min(cores)})
        os.sched_setaffinity(0, {max(cores)})
        try:
            yield
        finally:
            os.sched_setaffinity(0, cores)
            self._run_on(cores)

    def _run_on(self, cores: set[int]) -> None:
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)

    def peak_rss_mb(self) -> float:
        """The most memory it ever had resident, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def engine_process(data_dir: Path) -> Iterator[Child]:
    """`walras serve`."""
    command = ["engine.cli", "serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", str(data_dir)]
    with _child(command, data_dir) as child:
        yield child


@contextmanager
def floor_process(data_dir: Path, *options: str) -> Iterator[Child]:
    """The engine with the floor beside it; `options` are those of `benchmarks.floor`."""
    with _child(["benchmarks.floor", "--data-dir", str(data_dir), *options], data_dir) as child:
        yield child


@contextmanager
def _child(command: list[str], data_dir: Path) -> Iterator[Child]:
    log = data_dir.with_suffix(".log")
    with log.open("wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready_s = time.perf_counter() - started
        if not line.startswith(LISTENING):
            raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-LOG_TAIL:]}")
        yield Child(process.pid, line.removeprefix(LISTENING).strip(), ready_s)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
