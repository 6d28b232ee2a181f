"""Who did what to which object under which credential: an append-only file of JSON lines beside the journal.

Each line carries the hash of itself and the one before, so a line that was changed, removed or put in is found by
reading. A line is handed to the operating system before the call is answered (it survives the end of the process)
and is synced every second. It names credentials by their id and never holds one. Failures are counted rather than
listed beyond a few a second: a flood of refusals must not fill the disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engine.domain.errors import InvalidInput, Violation
from engine.trust.quotas import Buckets

log = logging.getLogger("walras.trust")
FILE_NAME = "audit.log"
START = "0" * 64
FAILURES_PER_S, FAILURES_BURST = 10.0, 100.0
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Act:
    """One call. `outcome`: its gRPC status; `object`: the name it was about, empty if none; `host`: where from."""

    at_us: int
    account: str
    credential: str
    host: str
    method: str
    object: str
    outcome: str

    def body(self, left_out: int) -> str:
        """Its line but for the chain; `dataclasses.asdict` copies every string and takes ten times as long."""
        return _body({name: getattr(self, name) for name in _FIELDS} | {"left_out": left_out})


_FIELDS = tuple(field.name for field in fields(Act))


class AuditLog:
    """The file of a running engine, which alone appends to it: `engine.service.acts` locks it."""

    def __init__(self, folder: Path, clock_s: Callable[[], float]) -> None:
        """The folder is there. `clock_s` is monotonic. OSError if the file cannot be had."""
        path = folder / FILE_NAME
        self._chain = _mended(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._failures = Buckets(FAILURES_PER_S, FAILURES_BURST, clock_s)
        self._left_out = 0

    def note(self, act: Act) -> None:
        """Append an act; a failure beyond the rate is counted in the next line instead."""
        if act.outcome != "OK":
            if self._failures.missing_s("", 1.0) > 0.0:
                self._left_out += 1
                return
            self._failures.take("", 1.0)
        body = act.body(self._left_out)
        self._chain, self._left_out = chained(self._chain, body), 0
        os.write(self._file, f'{body[:-1]},"chain":"{self._chain}"}}\n'.encode())

    def sync(self) -> None:
        """Make everything durable. Blocks."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and let go of the file, once."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1


def read_acts(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log in order, proven one by one; InvalidInput names the first that does not follow."""
    chain = START
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith("\n"):
                    return  # being written
                act, chain = _proven(line, chain, f"{path.name} line {number}")
                yield act
    except OSError as error:
        raise InvalidInput([Violation(str(path), error.strerror or "cannot be read")]) from None


def chained(previous: str, body: str) -> str:
    """The chain's hash after a line."""
    return hashlib.sha256((previous + body).encode()).hexdigest()


def _proven(line: str, previous: str, name: str) -> tuple[dict[str, Any], str]:
    try:
        act = json.loads(line)
        chain = str(act.pop("chain"))
    except (ValueError, KeyError, AttributeError):
        raise InvalidInput([Violation(name, "is no line of an audit log")]) from None
    if chained(previous, _body(act)) != chain:
        raise InvalidInput([Violation(name, "does not follow from the line before: the log was changed")])
    return act, chain


def _body(act: dict[str, Any]) -> str:
    return json.dumps(act, separators=(",", ":"), ensure_ascii=True)


def _mended(path: Path) -> str:
    """The chain's hash at the end of the file. A last line that a power failure cut short is taken off."""
    if not path.exists():
        return START
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - TAIL_BYTES))
        whole, newline, torn = file.read().rpartition(b"\n")
        if torn:
            log.warning("the last line of %s was cut short and is taken off", path.name)
            file.truncate(start + len(whole) + len(newline))
    if not whole:
        return START
    try:
        return str(json.loads(whole.rpartition(b"\n")[2])["chain"])
    except (ValueError, KeyError, TypeError):
        raise InvalidInput([Violation(str(path), "does not end like an audit log")]) from None
