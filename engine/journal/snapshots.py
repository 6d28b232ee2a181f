"""States in between, kept beside the entries, so that not everything has to be replayed.

The content is opaque here. A snapshot belongs to one entry, by sequence and hash, and is checked by its own hash
when it is read: a damaged one, one of another format and one of another history are passed over for an older one.
It is stored in parts, a transaction each, so that it holds up the writer no longer than a part takes; its record
is written last, so that a snapshot is whole or not there. Each transaction begins with a write: SQLite refuses one
that has read what the journal's writer then moved on from.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from engine.journal.database import DATABASE_ERRORS, Database, database_errors
from engine.journal.layout import check
from engine.journal.reader import hash_at
from engine.journal.schema import ENTRY, SCHEMA_VERSION, SNAPSHOT, SNAPSHOT_PART

log = logging.getLogger("walras.journal")
PART_BYTES = 1 << 20
KEPT = 2
_DROPS = [delete(table).where(table.c.sequence == bindparam("dropped")) for table in (SNAPSHOT, SNAPSHOT_PART)]
"""An IN of a list would be rendered anew each time, which took as long as the rest of a small snapshot."""


Content = Callable[[], bytes]


class Snapshot(NamedTuple):
    """The state after an entry. `recorded_at_us`: when that was recorded."""

    sequence: int
    recorded_at_us: int
    content: bytes


def save(database: Database, sequence: int, format_name: str, content: bytes) -> None:
    """Keep the state after a durable entry, and drop all but the KEPT newest snapshots."""
    engine = database.writing()
    with database_errors(database), engine.connect() as connection:
        with connection.begin():
            _drop(connection, [sequence])
        for part, start in enumerate(range(0, len(content), PART_BYTES)):
            payload = content[start : start + PART_BYTES]
            with connection.begin():
                connection.execute(insert(SNAPSHOT_PART).values(sequence=sequence, part=part, payload=payload))
        with connection.begin():
            chain_hash = hash_at(connection, sequence)
        with connection.begin():
            record = {
                "sequence": sequence,
                "chain_hash": chain_hash,
                "format": format_name,
                "size_bytes": len(content),
                "content_hash": hashlib.sha256(content).digest(),
            }
            connection.execute(insert(SNAPSHOT).values(record))
            newest = select(SNAPSHOT.c.sequence).order_by(SNAPSHOT.c.sequence.desc())
            _drop(connection, list(connection.execute(newest).scalars())[KEPT:])


def readable(database: Database, format_name: str) -> Iterator[Snapshot]:
    """Snapshots of this format that hold what they should, the newest first; the rest is passed over."""
    with database_errors(database), database.reading().begin() as connection:
        if check(connection, database.name) < SCHEMA_VERSION:
            return
        for record in _records(connection):
            try:
                snapshot = _read(connection, record, format_name)
            except (*DATABASE_ERRORS, TypeError) as error:
                log.warning("the snapshot at %s cannot be read: %s", record.sequence, error)
                continue
            if snapshot is not None:
                yield snapshot


def _records(connection: Connection) -> list[Row[tuple[object, ...]]]:
    return list(connection.execute(select(SNAPSHOT).order_by(SNAPSHOT.c.sequence.desc())).all())


def _read(connection: Connection, record: Row[tuple[object, ...]], format_name: str) -> Snapshot | None:
    if record.format != format_name:
        log.info("the snapshot at %s is of another version of this program", record.sequence)
        return None
    parts = select(SNAPSHOT_PART.c.payload).where(SNAPSHOT_PART.c.sequence == record.sequence)
    content = b"".join(connection.execute(parts.order_by(SNAPSHOT_PART.c.part)).scalars())
    entry = select(ENTRY.c.hash, ENTRY.c.recorded_at_us).where(ENTRY.c.sequence == record.sequence)
    stored = connection.execute(entry).one_or_none()
    if stored is None or stored.hash != record.chain_hash:
        log.warning("the snapshot at %s is of another history", record.sequence)
    elif hashlib.sha256(content).digest() != record.content_hash:
        log.warning("the snapshot at %s is damaged", record.sequence)
    else:
        return Snapshot(record.sequence, stored.recorded_at_us, content)
    return None


def _drop(connection: Connection, sequences: list[int]) -> None:
    if sequences:
        for statement in _DROPS:
            connection.execute(statement, [{"dropped": sequence} for sequence in sequences])
