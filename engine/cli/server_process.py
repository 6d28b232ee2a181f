"""An engine as a child process: started on a free loopback port, stopped for good."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from engine.domain.errors import Unavailable

READY_TIMEOUT_S = 120.0
"""The first start on a machine compiles the kernels."""
DRAIN_TIMEOUT_S = 30.0
LISTENING = "listening "
LOG_TAIL_LINES = 15


class ServerProcess:
    """A running child. It warms up meanwhile: `target` waits until it takes calls."""

    def __init__(self, data_dir: Path, log_file: Path, *more: str) -> None:
        """Start it, with more options of `walras serve`. Its stderr goes to `log_file`."""
        self._log_file = log_file
        command = [sys.executable, "-m", "engine.cli", "serve", "--dev"]
        place = [] if "--database-url" in more else ["--data-dir", str(data_dir)]
        command += ["--listen", "127.0.0.1:0", *place, *more]
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def target(self) -> str:
        """HOST:PORT, once it takes calls; Unavailable with the end of its log if it never does."""
        first_line = self._first_line()
        if first_line.startswith(LISTENING):
            return first_line.removeprefix(LISTENING).strip()
        log = self._log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        raise Unavailable("the engine did not start:\n" + "\n".join(log or ["(it said nothing)"]))

    def stop(self) -> int:
        """Drain it with SIGTERM, or kill it if that takes too long; its exit code, negative if killed."""
        self._process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(DRAIN_TIMEOUT_S)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        return self._process.returncode

    def _first_line(self) -> str:
        """The first line of its stdout; empty if it ends, or says nothing for READY_TIMEOUT_S."""
        silence = threading.Timer(READY_TIMEOUT_S, self._process.kill)
        silence.start()
        try:
            stdout: IO[str] | None = self._process.stdout
            return stdout.readline() if stdout is not None else ""
        finally:
            silence.cancel()


@contextmanager
def server_process(data_dir: Path, log_file: Path, *more: str) -> Iterator[ServerProcess]:
    """A child, with more options of `walras serve`, that is stopped in the end, whatever happens.

    It is started in a thread of its own: signals interrupt the main thread only, so that none can come between
    the birth of the child and the note that there is one.
    """
    launched: list[ServerProcess] = []
    try:
        with ThreadPoolExecutor(1) as starter:
            starter.submit(lambda: launched.append(ServerProcess(data_dir, log_file, *more))).result()
        yield launched[0]
    finally:
        for server in launched:
            server.stop()
