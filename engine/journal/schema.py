"""Tables of a journal, and the statements on them; SQLAlchemy Core, nothing of one dialect.

- journal_schema: one row, the version of this layout
- journal_entry: a row an event
- journal_head: one row, the last sequence and hash, moved in the transaction that appends
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    cast,
    insert,
    inspect,
    select,
    update,
)

from engine.domain.errors import InvalidInput, Violation
from engine.journal.chain import GENESIS

SCHEMA_VERSION = 1

_INT64 = BigInteger().with_variant(Integer(), "sqlite")
_metadata = MetaData()

_schema = Table("journal_schema", _metadata, Column("version", Integer, nullable=False), sqlite_strict=True)

_entry = Table(
    "journal_entry",
    _metadata,
    Column("sequence", _INT64, primary_key=True, autoincrement=False),
    Column("recorded_at_us", _INT64, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    sqlite_strict=True,
)

_head = Table(
    "journal_head",
    _metadata,
    Column("sequence", _INT64, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_strict=True,
)

APPEND = insert(_entry).returning(_entry.c.sequence)
"""RETURNING makes SQLAlchemy send one statement with many rows. A statement a row would hand the GIL to a
busy event loop after every row: 64 rows then took 236 ms instead of 49 ms (loop iterations of 10 ms)."""

MOVE_HEAD = (
    update(_head)
    .where(_head.c.sequence == bindparam("old_sequence"))
    .values(sequence=bindparam("new_sequence"), hash=bindparam("new_hash"))
)
"""Matches no row if another writer has been here: the caller must check `rowcount`."""

SELECT_HEAD = select(cast(_head.c.sequence, _INT64), cast(_head.c.hash, LargeBinary))

SELECT_HASH = select(cast(_entry.c.hash, LargeBinary)).where(_entry.c.sequence == bindparam("sequence"))

SELECT_ENTRIES = (
    select(
        _entry.c.sequence,
        cast(_entry.c.recorded_at_us, _INT64),
        cast(_entry.c.hash, LargeBinary),
        cast(_entry.c.payload, LargeBinary),
    )
    .where(_entry.c.sequence > bindparam("after_sequence"))
    .order_by(_entry.c.sequence)
)
"""The casts make a damaged SQLite value, whose type may have changed, readable, so that its hash can fail."""


def has_tables(connection: Connection) -> bool:
    """Whether the database has any table at all."""
    return bool(inspect(connection).get_table_names())


def prepare(connection: Connection, name: str) -> None:
    """Lay out a new database, or check the layout of an old one. `name` is what an error calls it."""
    if has_tables(connection):
        check(connection, name)
        return
    _metadata.create_all(connection)
    connection.execute(insert(_schema).values(version=SCHEMA_VERSION))
    connection.execute(insert(_head).values(sequence=GENESIS.sequence, hash=GENESIS.hash))


def check(connection: Connection, name: str) -> None:
    """Raise `InvalidInput` unless this is a journal of the version that this program writes."""
    if not inspect(connection).has_table(_schema.name):
        raise InvalidInput([Violation(name, "is a database, but not a Walras journal")])
    version = connection.execute(select(_schema.c.version)).scalar()
    if version != SCHEMA_VERSION:
        description = f"has journal schema version {version}; this program knows only {SCHEMA_VERSION}"
        raise InvalidInput([Violation(name, description)])
