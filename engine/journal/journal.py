"""The journal as its users see it: open, append, await, replay, close."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from engine.domain.errors import InvalidInput, Unavailable, Violation
from engine.journal import reader
from engine.journal.chain import Entry, Head
from engine.journal.database import Database, database_errors
from engine.journal.durability import Durability
from engine.journal.layout import prepare
from engine.journal.leadership import LEASE_S, Leadership
from engine.journal.lock import ProcessLock
from engine.journal.pen import Pen
from engine.journal.places import Place, database_at
from engine.journal.schema import NEXT_EPOCH
from engine.journal.sqlite import SqliteDatabase
from engine.journal.writer import Limits, Writer

CLOSE_TIMEOUT_S = 5.0


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


class Claim(Protocol):
    """The right to be the only writer. `epoch`: its own; `head`: where it begins."""

    epoch: int
    head: Head

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have it."""

    def release(self) -> None:
        """Let others have it. Can be called again."""


class Journal:
    """One open journal, of which this process is the only writer. Safe to use from any thread."""

    def __init__(self, database: Database, claim: Claim, epoch: int, head: Head, limits: Limits) -> None:
        """For `open` and `open_url`. `claim` is the journal's from now on if nothing is raised."""
        self.database, self._claim, self.epoch = database, claim, epoch
        with database_errors(database):
            pen = Pen(database, epoch)
        self._durability = Durability(head)
        self._writer = Writer(pen, self._durability, limits)

    @classmethod
    def open(cls, data_dir: Path, limits: Limits | None = None) -> Self:
        """Open the embedded journal in `data_dir`, made if absent. Errors as in `open_url`."""
        return cls.open_at(data_dir, limits)

    @classmethod
    def open_url(cls, url: str, limits: Limits | None = None) -> Self:
        """Open or create the journal that a URL names (see `Place`).

        `Unavailable`: another engine has it, or the disk fails. `NotLeader`: the same of a shared database.
        `InvalidInput`: no journal, or not of this version. `CorruptJournal`: the head is damaged (only `replay`
        and `verify` prove the whole chain).
        """
        return cls.open_at(url, limits)

    @classmethod
    def open_at(
        cls, place: Place, limits: Limits | None = None, address: str = "", lease_s: float = LEASE_S
    ) -> Self:
        """Either. `address`, `lease_s`: what followers in a shared database are told, and for how long."""
        database = database_at(place)
        claim = _claim(database, address, lease_s)
        try:
            return cls(database, claim, claim.epoch, claim.head, limits or Limits())
        except BaseException:
            claim.release()
            raise

    def append(self, events: Sequence[bytes], recorded_at_us: int) -> Receipt:
        """Enqueue one batch, whole or not at all, after all that were appended before.

        Returns at once. No events: a receipt for everything appended so far. Raises `Overloaded`,
        `Unavailable` or `InvalidInput`, and then nothing was enqueued.
        """
        if not self._claim.is_held:
            raise Unavailable(self.failure or "this engine cannot be sure that it still is the only writer")
        return Receipt(self._writer.submit(events, recorded_at_us), self._durability)

    async def wait_durable(self, sequence: int) -> int:
        """Return once `sequence` is durable, at once if it is; `Unavailable` if that will never be known."""
        return await self._durability.reached(sequence)

    def refuse_stalled(self) -> None:
        """If a commit takes too long, tell all who wait that its outcome is unknown. To be called now and then."""
        self._writer.refuse_stalled()

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

    @property
    def is_deposed(self) -> bool:
        """Whether another has become the writer."""
        return isinstance(self._claim, Leadership) and self._claim.is_lost

    def replay(self, after_sequence: int = 0) -> Generator[Entry]:
        """Durable entries after a sequence, each proven as it is read; raises `CorruptJournal`."""
        return reader.replay(self.database, after_sequence)

    entries_after = replay

    def close(self) -> None:
        """Make durable what was appended, stop the writer, let other processes in. Can be called again.

        A commit that waits for a standby for longer than CLOSE_TIMEOUT_S is left to the database, and so is the
        lease, which then runs out.
        """
        if self._writer.close(CLOSE_TIMEOUT_S if self.database.is_shared else None):
            self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _FileClaim:
    """A journal in a file at the beginning of a new epoch, for the process that holds the file's lock."""

    def __init__(self, database: SqliteDatabase) -> None:
        """Make the journal if it is absent."""
        file = database.file
        try:
            _make_directory(file.parent.absolute())
            self._lock = ProcessLock(file.with_name(file.name + ".lock"))
        except OSError as error:
            raise InvalidInput([Violation(str(file.parent), error.strerror or "cannot be used")]) from error
        try:
            self.epoch, self.head = _begun(database)
        except BaseException:
            self._lock.release()
            raise

    @property
    def is_held(self) -> bool:
        """The kernel takes the lock from nobody."""
        return self._lock.is_held

    def release(self) -> None:
        """See `Claim`."""
        self._lock.release()


def _claim(database: Database, address: str, lease_s: float) -> Claim:
    if isinstance(database, SqliteDatabase):
        return _FileClaim(database)
    return Leadership.take(database, address, lease_s)


@contextmanager
def claimed(place: Place) -> Iterator[Database]:
    """The database at a place, laid out, with nobody else writing to it meanwhile; errors as in `open_url`."""
    database = database_at(place)
    claim = _claim(database, "", LEASE_S)
    try:
        yield database
    finally:
        claim.release()


def _begun(database: SqliteDatabase) -> tuple[int, Head]:
    with database_errors(database), database.preparing().begin() as connection:
        database.begin_layout(connection)
        prepare(connection, database.name)
        head = reader.opening_head(connection)
        return int(connection.execute(NEXT_EPOCH).scalar_one()), head


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
