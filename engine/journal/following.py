"""A journal that another process writes, read as it grows, and who writes it. It appends nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection

from engine.domain.errors import NotLeader, Unavailable
from engine.journal.chain import GENESIS, Entry, Head
from engine.journal.database import Database, database_errors
from engine.journal.durability import Durability
from engine.journal.errors import CorruptJournal
from engine.journal.journal import Receipt
from engine.journal.layout import prepare
from engine.journal.leadership import Leader, leader_of, not_leader
from engine.journal.places import database_at
from engine.journal.reader import hash_at, link, proven, recorded_head
from engine.journal.schema import SELECT_ENTRIES

STALE_S = 10.0
"""A follower that could not read for longer answers nothing."""
CLOSE_TIMEOUT_S = 1.0
NOBODY = Leader(0, "", "", is_alive=False)


class Following:
    """Entries after a head, each proven as it is read. One thread reads at a time; the rest any thread may ask.

    What is read at once ends where a transaction of the writer ended, so never within a batch.
    """

    def __init__(self, database: Database, after: Head = GENESIS) -> None:
        """`after`: what is known already."""
        self.database, self.head = database, after
        self.leader, self.failure = NOBODY, ""
        self._read_at_s = time.monotonic()
        self._connection: Connection | None = None
        self._polling = threading.Lock()

    @classmethod
    def open_url(cls, url: str) -> Following:
        """The journal that a URL names, laid out if it is new. Errors as in `Journal.open_url`."""
        database = database_at(url)
        with database_errors(database), database.writing().begin() as connection:
            database.begin_layout(connection)
            prepare(connection, database.name)
        return cls(database)

    def poll(self) -> list[Entry]:
        """All entries that are new; also looks who leads.

        `Unavailable` if the database cannot be reached; the next call tries anew. `CorruptJournal` if what is
        there does not follow from what was read before: bit rot, or a database that lost what it had shown.
        """
        with self._polling, database_errors(self.database), self._connected() as connection:
            self.leader = leader_of(connection)
            recorded, entries = recorded_head(connection), []
            if recorded.sequence < self.head.sequence:
                raise CorruptJournal(recorded.sequence + 1, f"{self.head.sequence} entries were there before")
            head = self.head
            for row in connection.execute(SELECT_ENTRIES, {"after_sequence": head.sequence}):
                head, entry = link(head, row)
                entries.append(entry)
            self.head, self._read_at_s = head, time.monotonic()
            return entries

    def entries_after(self, sequence: int) -> Generator[Entry]:
        """All entries up to now after one that is known from a snapshot, one in memory at a time; then looks who
        leads."""
        with self._polling:
            if sequence:
                with database_errors(self.database), self._connected() as connection:
                    self.head = Head(sequence, hash_at(connection, sequence) or b"")
            for head, entry in proven(self.database, sequence):
                self.head = head
                yield entry
        yield from self.poll()

    def fail(self, failure: str) -> None:
        """What was read could not be used: nothing is answered from it any more."""
        self.failure = failure

    def append(self, events: Sequence[bytes], _recorded_at_us: int) -> Receipt:
        """`NotLeader`; without events a receipt for what was read, which is durable."""
        if events:
            raise self.redirect()
        if self.failure:
            raise Unavailable(self.failure)
        if time.monotonic() - self._read_at_s > STALE_S:
            raise Unavailable(f"the journal could not be read for {STALE_S:g} s")
        return Receipt(self.head.sequence, Durability(self.head))

    def refuse_stalled(self) -> None:
        """Nothing is written, so nothing stalls."""

    def redirect(self) -> NotLeader:
        """The error that says who writes, as far as the last poll knows."""
        return not_leader(self.leader)

    @property
    def durable_sequence(self) -> int:
        """The last sequence that was read."""
        return self.head.sequence

    def close(self) -> None:
        """Let go of the connection. Can be called again."""
        if self._polling.acquire(timeout=CLOSE_TIMEOUT_S):
            self._disconnect()
            self._polling.release()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A transaction of the connection that is kept from poll to poll."""
        try:
            if self._connection is None:
                self._connection = self.database.reading().connect()
            with self._connection.begin():
                yield self._connection
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
