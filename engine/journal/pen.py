"""What puts a group of entries into the database, and finds out what became of it if the database does not say.

A COMMIT that ends in an error may have happened. With SQLite that is the end: the journal stops, and opening it
again reads what is there. A shared database can be reached anew: the head, read under its lock once no transaction
of ours is under way any more, is where it was (write again), or where the group leads (it happened), or of a later
epoch: then another engine leads, and this journal stops.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from engine.domain.errors import Unavailable
from engine.journal.chain import Head
from engine.journal.database import WARNING, Database
from engine.journal.schema import APPEND, MOVE_HEAD, TOUCH_HEAD

RETRY_S = 0.2
Rows = list[dict[str, Any]]


class Pen:
    """Appends as the writer of one epoch. Used by one thread; `give_up_when_in_trouble` by any."""

    def __init__(self, database: Database, epoch: int) -> None:
        """Connects; errors of the database as they are."""
        self._database, self._epoch = database, epoch
        self._engine = database.writing()
        self._connection: Connection | None = self._engine.connect()
        self._given_up = threading.Event()
        self.trouble: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnect()

    def give_up_when_in_trouble(self) -> None:
        """Raise at the next error of the database instead of trying again."""
        self._given_up.set()

    def append(self, old: Head, new: Head, rows: Rows) -> None:
        """Make the entries that lead from `old` to `new` durable; raises if that did not or may not have happened.

        `Unavailable`: another writer was here.
        """
        try:
            self._write(old, new, rows)
        except (OperationalError, InterfaceError) as error:
            if not self._database.is_shared:
                raise
            self._find_out(old, new, rows, error)

    def _write(self, old: Head, new: Head, rows: Rows) -> None:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            moved = self._connection.execute(
                MOVE_HEAD,
                {
                    "old_sequence": old.sequence,
                    "old_epoch": self._epoch,
                    "new_sequence": new.sequence,
                    "new_hash": new.hash,
                },
            )
            if moved.rowcount != 1:
                raise Unavailable("another writer has moved the head, or may: this one is of an earlier epoch")
            self._connection.execute(APPEND, rows)
        self._check_confirmed()

    def _check_confirmed(self) -> None:
        """A COMMIT that was cancelled while it waited for the standby succeeds, with a warning."""
        assert self._connection is not None
        warning = self._connection.info.pop(WARNING, None)
        if warning is not None:
            raise OperationalError("COMMIT", None, Exception(warning))

    def _find_out(self, old: Head, new: Head, rows: Rows, error: DBAPIError) -> None:
        """Reach the database again and write what is not there."""
        while True:
            self.trouble = str(error.orig).strip()
            self._disconnect()
            if self._given_up.wait(RETRY_S):
                raise error
            try:
                if self._written() != new:
                    self._write(old, new, rows)
            except (OperationalError, InterfaceError) as again:
                error = again
                continue
            self.trouble = None
            return

    def _written(self) -> Head:
        """The head, once nothing of ours can move it any more and it is as durable as a new commit is.

        After a crash the server shows what it had committed, whether the standby has it or not.
        """
        self._connection = self._engine.connect()
        with self._connection.begin():
            sequence, last, epoch = self._connection.execute(TOUCH_HEAD).one()
        self._check_confirmed()
        if epoch != self._epoch:
            raise Unavailable(f"another engine has begun epoch {epoch}")
        return Head(sequence, bytes(last))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
