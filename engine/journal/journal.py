"""The journal as its users see it: open, append, await, replay, close."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection

from engine.domain.errors import InvalidInput, Violation
from engine.journal import reader
from engine.journal.chain import Entry, Head
from engine.journal.database import (
    FILE_NAME,
    database_errors,
    file_of,
    pages_of,
    preparing_engine,
    reading_engine,
    writing_engine,
)
from engine.journal.durability import Durability
from engine.journal.errors import CorruptJournal
from engine.journal.lock import ProcessLock
from engine.journal.schema import has_tables, prepare
from engine.journal.writer import Limits, Writer


class Receipt:
    """A promise that one batch becomes durable: `await receipt`, or `receipt.result()` in a thread."""

    __slots__ = ("_durability", "sequence")

    def __init__(self, sequence: int, durability: Durability) -> None:
        self.sequence = sequence
        self._durability = durability

    def __await__(self) -> Generator[object, None, int]:
        """The batch's last sequence, once durable; `Unavailable` if that will never be known."""
        return self._durability.reached(self.sequence).__await__()

    def result(self, timeout_s: float | None = None) -> int:
        """The same, blocking; `TimeoutError` after `timeout_s`."""
        return self._durability.reached_blocking(self.sequence, timeout_s)


class Journal:
    """One open journal, of which this process is the only writer. Safe to use from any thread."""

    def __init__(self, file: Path, lock: ProcessLock, limits: Limits) -> None:
        """For `open` and `open_url`. `lock` is held, and the journal's from now on if nothing is raised."""
        self._file = file
        self._lock = lock
        with database_errors(str(file)):
            head, connection = _prepared(file)
        self._durability = Durability(head)
        self._writer = Writer(connection, self._durability, limits)

    @classmethod
    def open(cls, data_dir: Path, limits: Limits | None = None) -> Self:
        """Open the embedded journal in `data_dir`, made if absent. Errors as in `open_url`."""
        return cls._open_file(data_dir / FILE_NAME, limits or Limits())

    @classmethod
    def open_url(cls, url: str, limits: Limits | None = None) -> Self:
        """Open or create the journal that a `sqlite:///path` URL names.

        `Unavailable`: another engine has it, or the disk fails. `InvalidInput`: no journal, or not of this
        version. `CorruptJournal`: the head is damaged (only `replay` and `verify` prove the whole chain).
        """
        return cls._open_file(file_of(url), limits or Limits())

    @classmethod
    def _open_file(cls, file: Path, limits: Limits) -> Self:
        try:
            _make_directory(file.parent.absolute())
            lock = ProcessLock(file.with_name(file.name + ".lock"))
        except OSError as error:
            raise InvalidInput([Violation(str(file.parent), error.strerror or "cannot be used")]) from error
        try:
            return cls(file, lock, limits)
        except BaseException:
            lock.release()
            raise

    def append(self, events: Sequence[bytes], recorded_at_us: int) -> Receipt:
        """Enqueue one batch, whole or not at all, after all that were appended before.

        Returns at once. No events: a receipt for everything appended so far. Raises `Overloaded`,
        `Unavailable` or `InvalidInput`, and then nothing was enqueued.
        """
        return Receipt(self._writer.submit(events, recorded_at_us), self._durability)

    async def wait_durable(self, sequence: int) -> int:
        """Return once `sequence` is durable, at once if it is; `Unavailable` if that will never be known."""
        return await self._durability.reached(sequence)

    @property
    def durable_sequence(self) -> int:
        """The last sequence that is safe on disk."""
        return self._durability.head.sequence

    @property
    def appended_sequence(self) -> int:
        """The last sequence given out, durable or not."""
        return self._writer.appended_sequence

    @property
    def head(self) -> Head:
        """Sequence and hash of the last durable entry."""
        return self._durability.head

    @property
    def failure(self) -> str | None:
        """Why nothing can become durable any more; None while the journal works."""
        return self._durability.failure

    def replay(self, after_sequence: int = 0) -> Iterator[Entry]:
        """Durable entries after a sequence, each proven as it is read; raises `CorruptJournal`."""
        return reader.replay(reading_engine(self._file), str(self._file), after_sequence)

    def close(self) -> None:
        """Make durable what was appended, stop the writer, let other processes in. Can be called again."""
        self._writer.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prepared(file: Path) -> tuple[Head, Connection]:
    """The head of the journal in `file`, made if absent, and a connection for its writer."""
    with preparing_engine(file).begin() as connection:
        if not has_tables(connection) and pages_of(connection) > 1:
            raise CorruptJournal(1, "the file holds pages, but its list of tables is gone")
        prepare(connection, str(file))
        head = reader.opening_head(connection)
    return head, writing_engine(file).connect()


def _make_directory(directory: Path) -> None:
    """Make a directory and its parents such that a power cut cannot take them back."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    descriptor = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
