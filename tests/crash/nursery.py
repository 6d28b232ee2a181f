"""Servers that start at once: a process that has everything loaded forks one for each line it reads.

usage: python -m tests.crash.nursery; a line on stdin is a JSON object, {options: {…}, log: path}; the answer is
the child's process id. What a child prints, `listening HOST:PORT` included, goes to its log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

WAIT_S = 120.0
TICK_S = 0.05
"""How often snapshots are thought of: these servers live for a second."""


def main() -> None:
    from engine.service.server import run  # noqa: F401  loads all there is
    from solvers.warmup import warm_up

    warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            serve(wanted)
        print(child, flush=True)


def serve(wanted: dict[str, Any]) -> NoReturn:
    """Be the server, as `walras serve` is."""
    from engine.service import server
    from engine.service.options import ServerOptions

    server.LEASE_TICK_S = TICK_S
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    options = wanted["options"]
    options["data_dir"] = Path(options["data_dir"])
    code = 3
    try:
        code = server.run(ServerOptions(listen="127.0.0.1:0", dev=True, oracle_tick_s=0, **options))
    finally:
        sys.stdout.flush()
        os._exit(code)


class Nursery:
    """The process that forks servers."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.crash.nursery"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        assert self._stdout.readline() == "ready\n"

    def start(self, log: Path, **options: object) -> tuple[int, str]:
        """(process id, HOST:PORT) of a new server that takes calls; unless said, its data lie beside its log."""
        options = {"data_dir": str(log.with_suffix(".data")), **options}
        log.unlink(missing_ok=True)
        self._stdin.write(json.dumps({"log": str(log), "options": options}) + "\n")
        self._stdin.flush()
        pid, ends_s = int(self._stdout.readline()), time.monotonic() + WAIT_S
        while time.monotonic() < ends_s:
            for line in log.read_text().splitlines() if log.exists() else ():
                if line.startswith("listening "):
                    return pid, line.removeprefix("listening ")
            time.sleep(0.01)
        raise AssertionError(log.read_text())

    def close(self) -> None:
        """No more servers; those that run go on."""
        self._stdin.close()
        self._process.wait(WAIT_S)
        self._stdout.close()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery that is closed in the end."""
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


def kill(pid: int) -> None:
    """`kill -9`, and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.005)


if __name__ == "__main__":
    main()
