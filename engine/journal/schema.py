"""Tables of a journal, and the statements on them; SQLAlchemy Core, nothing of one dialect.

- journal_schema: one row, the version of this layout; `engine.journal.migrations` lead to it
- journal_entry: a row an event
- journal_head: one row: the last sequence and hash, and the epoch of the only writer that may move it; both are
  checked and moved in the transaction that appends
- journal_leader: one row, who leads the replicas and until when
- journal_snapshot, journal_snapshot_part: states of the market in between, in parts of a bounded size
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    cast,
    insert,
    select,
    update,
)

SCHEMA_VERSION = 2

INT64 = BigInteger().with_variant(Integer(), "sqlite")
METADATA = MetaData()

MIGRATION = Table("journal_migration", METADATA, Column("version_num", String(32), primary_key=True))
"""Alembic's own record."""

SCHEMA = Table("journal_schema", METADATA, Column("version", Integer, nullable=False), sqlite_strict=True)

ENTRY = Table(
    "journal_entry",
    METADATA,
    Column("sequence", INT64, primary_key=True, autoincrement=False),
    Column("recorded_at_us", INT64, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    sqlite_strict=True,
)

HEAD = Table(
    "journal_head",
    METADATA,
    Column("sequence", INT64, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("epoch", INT64, nullable=False, server_default="0"),
    sqlite_strict=True,
)

LEADER = Table(
    "journal_leader",
    METADATA,
    Column("epoch", INT64, nullable=False),
    Column("holder", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("expires_at_us", INT64, nullable=False),
    sqlite_strict=True,
)

SNAPSHOT = Table(
    "journal_snapshot",
    METADATA,
    Column("sequence", INT64, primary_key=True, autoincrement=False),
    Column("chain_hash", LargeBinary, nullable=False),
    Column("format", Text, nullable=False),
    Column("size_bytes", INT64, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    sqlite_strict=True,
)

SNAPSHOT_PART = Table(
    "journal_snapshot_part",
    METADATA,
    Column("sequence", INT64, primary_key=True, autoincrement=False),
    Column("part", INT64, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
    sqlite_strict=True,
)

APPEND = insert(ENTRY).returning(ENTRY.c.sequence)
"""RETURNING makes SQLAlchemy send one statement with many rows. A statement a row would hand the GIL to a
busy event loop after every row: 64 rows then took 236 ms instead of 49 ms (loop iterations of 10 ms)."""

MOVE_HEAD = (
    update(HEAD)
    .where(HEAD.c.sequence == bindparam("old_sequence"), HEAD.c.epoch == bindparam("old_epoch"))
    .values(sequence=bindparam("new_sequence"), hash=bindparam("new_hash"))
)
"""Matches no row if another writer has been here, or may be: the caller must check `rowcount`."""

SELECT_HEAD = select(cast(HEAD.c.sequence, INT64), cast(HEAD.c.hash, LargeBinary))

TOUCH_HEAD = update(HEAD).values(epoch=HEAD.c.epoch).returning(HEAD.c.sequence, HEAD.c.hash, HEAD.c.epoch)
"""The head with its epoch, once no transaction that would move it is under way any more. It changes nothing, but
it writes: when its COMMIT is confirmed, by the standby too, so is all that was committed before."""

NEXT_EPOCH = update(HEAD).values(epoch=HEAD.c.epoch + 1).returning(HEAD.c.epoch)

SELECT_HASH = select(cast(ENTRY.c.hash, LargeBinary)).where(ENTRY.c.sequence == bindparam("sequence"))

SELECT_ENTRIES = (
    select(
        ENTRY.c.sequence,
        cast(ENTRY.c.recorded_at_us, INT64),
        cast(ENTRY.c.hash, LargeBinary),
        cast(ENTRY.c.payload, LargeBinary),
    )
    .where(ENTRY.c.sequence > bindparam("after_sequence"))
    .order_by(ENTRY.c.sequence)
)
"""The casts make a damaged SQLite value, whose type may have changed, readable, so that its hash can fail."""
