"""The embedded database: one SQLite file with a write-ahead log, synced at every commit.

A plain BEGIN, since BEGIN IMMEDIATE would make readers wait for the writer.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from engine.domain.errors import InvalidInput, Unavailable, Violation, WalrasError
from engine.journal.errors import CorruptJournal
from engine.journal.layout import has_tables

WAL_BYTES_KEPT = 64 << 20


@dataclass(frozen=True, slots=True)
class SqliteDatabase:
    """A `Database` in a file."""

    file: Path
    is_shared: bool = False

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.file)

    def preparing(self) -> Engine:
        """See `Database`."""
        return _engine(URL.create("sqlite", database=self.name))

    def writing(self) -> Engine:
        """See `Database`."""
        engine = self.preparing()

        @event.listens_for(engine, "connect")
        def sync_every_commit(connection: sqlite3.Connection, _record: object) -> None:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise InvalidInput([Violation(self.name, "its file system cannot hold a write-ahead log")])
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")

        return engine

    def reading(self) -> Engine:
        """See `Database`."""
        query = {"mode": "ro", "uri": "true"}
        return _engine(URL.create("sqlite", database=f"file:{quote(self.name)}", query=query))

    def check_there(self) -> None:
        """See `Database`."""
        if not self.file.is_file():
            raise InvalidInput([Violation(self.name, "no such file")])

    def begin_layout(self, connection: Connection) -> None:
        """See `Database`. The caller holds the file's lock. A file that was only opened has at most one page."""
        if not has_tables(connection) and connection.exec_driver_sql("PRAGMA page_count").scalar_one() > 1:
            raise CorruptJournal(1, "the file holds pages, but its list of tables is gone")

    def weakness(self, connection: Connection) -> str:
        """See `Database`. One disk is one disk."""
        return ""

    def translated(self, error: Exception, reading_sequence: int = 1) -> WalrasError:
        """See `Database`."""
        said = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(said, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_NOTADB:
            return InvalidInput([Violation(self.name, "is not a Walras journal: not an SQLite database")])
        if isinstance(error, OperationalError) and code != sqlite3.SQLITE_ERROR:
            return Unavailable(f"{self.name}: {said}")
        return CorruptJournal(reading_sequence, f"{self.name}: {said}")


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
