"""The right to be a journal's only writer: a lock on the file, or a lease in the database that several share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from engine.domain.errors import InvalidInput, Violation
from engine.journal.chain import Head
from engine.journal.database import Database, database_errors
from engine.journal.layout import check, has_tables, prepare
from engine.journal.leadership import Leadership, taken
from engine.journal.lock import ProcessLock
from engine.journal.reader import opening_head
from engine.journal.schema import NEXT_EPOCH
from engine.journal.sqlite import SqliteDatabase


class Claim(Protocol):
    """The right to be the only writer. `epoch`: its own; `head`: where it begins."""

    epoch: int
    head: Head

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have it."""

    def release(self) -> None:
        """Let others have it. Can be called again."""


class FileClaim:
    """A journal in a file at the beginning of a new epoch, for the process that holds the file's lock."""

    def __init__(self, database: SqliteDatabase) -> None:
        """Make the journal if it is absent."""
        self._lock = _locked(database.file)
        try:
            with database_errors(database), database.preparing().begin() as connection:
                self.epoch, self.head = _begun(database, connection)
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


def claim_of(database: Database, address: str, lease_s: float) -> Claim:
    """The right to write a journal, made if it is absent; errors as in `Journal.open_url`."""
    if isinstance(database, SqliteDatabase):
        return FileClaim(database)
    return Leadership.take(database, address, lease_s)


@contextmanager
def sole_transaction(database: Database) -> Iterator[tuple[Connection, Head]]:
    """One transaction on a journal, laid out in it if it is new, with nobody else writing; (connection, head).

    Whenever the process dies, all of it has happened or nothing. Errors as in `open_url`.
    """
    with ExitStack() as held, database_errors(database):
        if isinstance(database, SqliteDatabase):
            held.callback(_locked(database.file).release)
            _leave_strangers_alone(database)
            begin = partial(_begun, database)
        else:
            begin = partial(taken, database, address="", lease_s=0.0)
        with database.writing().begin() as connection:
            yield connection, begin(connection)[1]


def _leave_strangers_alone(database: SqliteDatabase) -> None:
    """`InvalidInput` if the file is another program's, before connections that write change its mode."""
    with database.preparing().begin() as connection:
        database.begin_layout(connection)
        if has_tables(connection):
            check(connection, database.name)


def _locked(file: Path) -> ProcessLock:
    try:
        _make_directory(file.parent.absolute())
        return ProcessLock(file.with_name(file.name + ".lock"))
    except OSError as error:
        raise InvalidInput([Violation(str(file.parent), error.strerror or "cannot be used")]) from error


def _begun(database: SqliteDatabase, connection: Connection) -> tuple[int, Head]:
    database.begin_layout(connection)
    prepare(connection, database.name)
    head = opening_head(connection)
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
