"""How a journal's database is reached: engines, settings, and one translation of database errors.

SQLite only, so far. Transactions are begun explicitly, so that a reader sees one snapshot from its first
statement to its last; a plain BEGIN, since BEGIN IMMEDIATE would make readers wait for the writer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from engine.domain.errors import InvalidInput, Unavailable, Violation, WalrasError
from engine.journal.errors import CorruptJournal

FILE_NAME = "journal.sqlite"
WAL_BYTES_KEPT = 64 << 20

DATABASE_ERRORS = (DBAPIError, UnicodeDecodeError)
"""All that a database, damaged or not, is known to raise: SQLite quotes damaged bytes in its messages."""


def file_of(url: str) -> Path:
    """The database file that a `sqlite:///path` URL names; anything else is `InvalidInput`."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidInput([Violation("database-url", "is not a database URL")]) from None
    if parsed.get_backend_name() != "sqlite":
        description = f"{parsed.get_backend_name()} is not supported; use sqlite:///path"
        raise InvalidInput([Violation("database-url", description)])
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise InvalidInput([Violation("database-url", "must name a plain file, as in sqlite:///path")])
    return Path(parsed.database)


def preparing_engine(file: Path) -> Engine:
    """Connections that leave a database as it is until its layout is known."""
    return _engine(URL.create("sqlite", database=str(file)))


def writing_engine(file: Path) -> Engine:
    """Connections to a journal that may write: every commit is synced before it returns."""
    engine = preparing_engine(file)

    @event.listens_for(engine, "connect")
    def sync_every_commit(connection: sqlite3.Connection, _record: object) -> None:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise InvalidInput([Violation(str(file), "its file system cannot hold a write-ahead log")])
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")

    return engine


def reading_engine(file: Path) -> Engine:
    """Connections that cannot write; they work beside a running engine and see one snapshot each."""
    query = {"mode": "ro", "uri": "true"}
    return _engine(URL.create("sqlite", database=f"file:{quote(str(file))}", query=query))


def pages_of(connection: Connection) -> int:
    """Pages of an SQLite file; one that was never written to, or only opened, has at most one."""
    return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())


@contextmanager
def database_errors(name: str) -> Iterator[None]:
    """Turn what a database raises into our errors, without SQL or payload in the message."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise translated(error, name) from error


def translated(error: Exception, name: str, reading_sequence: int = 1) -> WalrasError:
    """The error of ours that says what the database said. `reading_sequence`: the entry it was met at."""
    said = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(said, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_NOTADB:
        return InvalidInput([Violation(name, "is not a Walras journal: not an SQLite database")])
    if isinstance(error, OperationalError) and code != sqlite3.SQLITE_ERROR:
        return Unavailable(f"{name}: {said}")
    return CorruptJournal(reading_sequence, f"{name}: {said}")


def _engine(url: URL) -> Engine:
    # The writer's connection is made by one thread and used by another; NullPool keeps none open.
    engine = create_engine(
        url, poolclass=NullPool, hide_parameters=True, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
