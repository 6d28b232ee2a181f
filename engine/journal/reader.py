"""Reading a journal: entries in order, each proven by the chain as it is read.

A reader holds one snapshot from first to last entry. While it does, SQLite cannot recycle its write-ahead
log, so read at a stretch beside a busy writer.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from typing import Any

from sqlalchemy import Connection, Row

from engine.domain.errors import InvalidInput, Violation
from engine.journal.chain import GENESIS, Entry, Head, extend
from engine.journal.database import DATABASE_ERRORS, Database, database_errors
from engine.journal.errors import CorruptJournal
from engine.journal.layout import check
from engine.journal.places import Place, database_at
from engine.journal.schema import SELECT_ENTRIES, SELECT_HASH, SELECT_HEAD


def verify(place: Place) -> Head:
    """Prove the whole chain of the journal at a place and return its head.

    Read-only; an engine may be running on it. Raises `CorruptJournal`, or `InvalidInput` if there is none.
    """
    proven = GENESIS
    for head, _ in proven_at(place):
        proven = head
    return proven


def replay_files(place: Place) -> Iterator[Entry]:
    """`Journal.replay` of a journal that this process has not opened: read-only, all entries, each proven."""
    return (entry for _, entry in proven_at(place))


def proven_at(place: Place) -> Iterator[tuple[Head, Entry]]:
    """The same with the head after each entry."""
    database = database_at(place)
    database.check_there()
    with database_errors(database), database.reading().begin() as connection:
        check(connection, database.name)
    return proven(database, GENESIS.sequence)


def replay(database: Database, after_sequence: int) -> Generator[Entry]:
    """Entries after `after_sequence`, from one snapshot, one row in memory at a time."""
    return (entry for _, entry in proven(database, after_sequence))


def opening_head(connection: Connection) -> Head:
    """The recorded head, checked against the last entry in constant time."""
    head = recorded_head(connection)
    if head != GENESIS and head.hash != hash_at(connection, head.sequence):
        raise CorruptJournal(head.sequence, "the last entry is missing or differs from the recorded head")
    return head


def link(head: Head, row: Row[*tuple[Any, ...]]) -> tuple[Head, Entry]:
    """Check one stored row against the chain so far."""
    sequence, recorded_at_us, stored_hash, payload = row
    try:
        extended = extend(head, recorded_at_us, payload)
    except (TypeError, struct.error):
        raise CorruptJournal(head.sequence + 1, "a stored value has the wrong type") from None
    if sequence != extended.sequence:
        raise CorruptJournal(extended.sequence, f"the next entry stored is {sequence}")
    if stored_hash != extended.hash:
        raise CorruptJournal(sequence, "its hash does not follow from the entry before it")
    return extended, Entry(sequence, recorded_at_us, payload)


def hash_at(connection: Connection, sequence: int) -> bytes | None:
    """The stored hash of one entry; None if it is missing."""
    return connection.execute(SELECT_HASH, {"sequence": sequence}).scalar()


def recorded_head(connection: Connection) -> Head:
    """The head as it is recorded; `CorruptJournal` if it is no head."""
    rows = connection.execute(SELECT_HEAD).all()
    if len(rows) != 1 or None in rows[0]:
        raise CorruptJournal(1, "the record of the head is damaged")
    return Head(*rows[0])


def proven(database: Database, after_sequence: int) -> Iterator[tuple[Head, Entry]]:
    """`replay` with the head after each entry."""
    head = Head(after_sequence, b"")
    try:
        with database.reading().begin() as connection:
            recorded = recorded_head(connection)
            head = _start(connection, after_sequence, recorded)
            for row in connection.execute(SELECT_ENTRIES, {"after_sequence": after_sequence}):
                if head.sequence >= recorded.sequence:
                    raise CorruptJournal(head.sequence + 1, "there are entries after the recorded head")
                head, entry = link(head, row)
                yield head, entry
    except DATABASE_ERRORS as error:
        raise database.translated(error, head.sequence + 1) from error
    if head != recorded:
        raise CorruptJournal(head.sequence + 1, f"the recorded head, at {recorded.sequence}, is another")


def _start(connection: Connection, after_sequence: int, recorded: Head) -> Head:
    """The head that the first entry to read must extend."""
    if not 0 <= after_sequence <= recorded.sequence:
        description = f"is {after_sequence}, but the journal ends at {recorded.sequence}"
        raise InvalidInput([Violation("after_sequence", description)])
    if after_sequence == GENESIS.sequence:
        return GENESIS
    start = hash_at(connection, after_sequence)
    if start is None:
        raise CorruptJournal(after_sequence, "the entry is missing")
    return Head(after_sequence, start)
