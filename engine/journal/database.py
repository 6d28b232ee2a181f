"""What both kinds of databases have in common: connections, settings, one translation of database errors.

Transactions are begun explicitly, and a reader sees one snapshot from its first statement to its last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from engine.domain.errors import WalrasError

FILE_NAME = "journal.sqlite"
"""The embedded journal, in its data directory."""

WARNING = "warning"
"""Under this name a connection's `info` has the last warning of the server, if it gave one."""

DATABASE_ERRORS = (DBAPIError, UnicodeDecodeError)
"""All that a database, damaged or not, is known to raise: SQLite quotes damaged bytes in its messages."""


class Database(Protocol):
    """A database that holds a journal, or may hold one."""

    @property
    def name(self) -> str:
        """What errors call it, without secrets."""

    @property
    def is_shared(self) -> bool:
        """Whether several processes may have it open, one of which leads; else a lock on a file keeps all but one
        out."""

    def preparing(self) -> Engine:
        """Connections that leave a database as it is until its layout is known."""

    def writing(self) -> Engine:
        """Connections that may write: every commit is durable before it returns."""

    def reading(self) -> Engine:
        """Connections that cannot write; they work beside a writer and see one snapshot each."""

    def check_there(self) -> None:
        """`InvalidInput` if there is nothing to read; nothing is made."""

    def begin_layout(self, connection: Connection) -> None:
        """Keep others from laying out the same database; `CorruptJournal` if it only seems to be empty."""

    def weakness(self, connection: Connection) -> str:
        """What an operator who relies on acknowledgements should know of how it is set up; empty if nothing."""

    def translated(self, error: Exception, reading_sequence: int = 1) -> WalrasError:
        """The error of ours that says what the database said. `reading_sequence`: the entry it was met at."""


@contextmanager
def database_errors(database: Database) -> Iterator[None]:
    """Turn what a database raises into our errors, without SQL or payload in the message."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise database.translated(error) from error
