"""Copies of a journal in one file, made while an engine runs, and journals made from them, in either database.

A copy holds the entries, not the pages: it can be brought from SQLite to PostgreSQL and back. The file:

    magic line · { sequence, recorded_at_us, length: 3 × int64 big endian · payload } … · the same with sequence 0
    and length 32, the payload being the hash of the last entry

Restoring computes the chain anew and compares its end: a file that was cut short, changed or put together of two
is refused before anything is made. Snapshots are not copied; the first start replays.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, update

from engine.domain.errors import InvalidInput, Violation
from engine.journal.chain import GENESIS, Entry, Head, extend
from engine.journal.claims import sole_transaction
from engine.journal.places import Place, database_at
from engine.journal.reader import proven_at
from engine.journal.schema import APPEND, HEAD

MAGIC = b"WALRAS JOURNAL 1\n"
_FIXED = struct.Struct(">qqq")
_GROUP_BYTES, _LENGTH_MAX = 4 << 20, 1 << 30


def back_up(place: Place, file: Path) -> Head:
    """Write a copy of the journal at a place, as of now, and return its head. The file is whole or not there.

    `InvalidInput` if the file is there already; `CorruptJournal` if the journal does not hold.
    """
    if file.exists():
        raise InvalidInput([Violation(str(file), "is there already")])
    entries = proven_at(place)
    partial = file.with_name(file.name + ".partial")
    try:
        with partial.open("wb") as out:
            head = _write(entries, out)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)
    return head


def restore_backup(file: Path, place: Place) -> Head:
    """Make a journal at a place, which must hold none or an empty one, from a copy; return its head.

    `InvalidInput`: not a whole copy, or there is a journal already. One transaction, tables included: whoever ends
    the process, all of it is there or no journal. The copy is proven before the place is touched.
    """
    with file.open("rb") as source:
        _prove(source, str(file))
        database = database_at(place)
        with sole_transaction(database) as (connection, head):
            if head.sequence != GENESIS.sequence:
                raise _bad(database.name, "holds a journal already")
            return _append(connection, read(source, str(file)))


def read(source: BinaryIO, name: str) -> Iterator[tuple[Head, Entry]]:
    """The entries of a copy with the head after each; `InvalidInput` at the first thing that is wrong."""
    if source.read(len(MAGIC)) != MAGIC:
        raise _bad(name, "is not a copy of a Walras journal")
    head = GENESIS
    while True:
        sequence, recorded_at_us, payload = _record(source, name, head)
        if sequence == GENESIS.sequence:
            break
        if sequence != head.sequence + 1 or recorded_at_us < 0:
            raise _bad(name, f"entry {head.sequence + 1} is missing")
        head = extend(head, recorded_at_us, payload)
        yield head, Entry(sequence, recorded_at_us, payload)
    if payload != head.hash:
        raise _bad(name, "its entries do not give the hash at its end: it was changed")
    if source.read(1):
        raise _bad(name, "goes on after its end")


def _prove(source: BinaryIO, name: str) -> None:
    """Read a whole copy and go back to its beginning; `InvalidInput` if anything is wrong with it."""
    if not source.seekable():
        raise _bad(name, "is read twice, which a pipe cannot be")
    for _ in read(source, name):
        pass
    source.seek(0)


def _record(source: BinaryIO, name: str, head: Head) -> Entry:
    fixed = source.read(_FIXED.size)
    if len(fixed) == _FIXED.size:
        sequence, recorded_at_us, length = _FIXED.unpack(fixed)
        payload = source.read(length) if 0 <= length <= _LENGTH_MAX else b""
        if len(payload) == length:
            return Entry(sequence, recorded_at_us, payload)
    raise _bad(name, f"is cut short or damaged after entry {head.sequence}")


def _write(proven: Iterator[tuple[Head, Entry]], out: BinaryIO) -> Head:
    head = GENESIS
    out.write(MAGIC)
    for head, (sequence, recorded_at_us, payload) in proven:  # noqa: B007
        out.write(_FIXED.pack(sequence, recorded_at_us, len(payload)))
        out.write(payload)
    out.write(_FIXED.pack(GENESIS.sequence, 0, len(head.hash)))
    out.write(head.hash)
    return head


def _append(connection: Connection, entries: Iterator[tuple[Head, Entry]]) -> Head:
    head, rows, size_bytes = GENESIS, [], 0
    for head, (sequence, recorded_at_us, payload) in entries:
        rows.append(
            {"sequence": sequence, "recorded_at_us": recorded_at_us, "hash": head.hash, "payload": payload}
        )
        size_bytes += len(payload)
        if size_bytes >= _GROUP_BYTES or len(rows) >= 1_000:
            connection.execute(APPEND, rows)
            rows, size_bytes = [], 0
    if rows:
        connection.execute(APPEND, rows)
    connection.execute(update(HEAD).values(sequence=head.sequence, hash=head.hash))
    return head


def _bad(name: str, description: str) -> InvalidInput:
    return InvalidInput([Violation(name, description)])
