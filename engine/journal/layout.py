"""Laying out a journal's tables, and bringing older ones up to date.

An older journal is migrated by Alembic. A new one is laid out at once, which is 20 times faster and loads nothing;
a test holds the two against each other.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, inspect, select

from engine.domain.errors import InvalidInput, Violation
from engine.journal.chain import GENESIS
from engine.journal.schema import HEAD, LEADER, METADATA, MIGRATION, SCHEMA, SCHEMA_VERSION

FIRST_REVISION = "0001"
"""What a journal has that was laid out before there were migrations."""


def has_tables(connection: Connection) -> bool:
    """Whether the database has any table at all."""
    return bool(inspect(connection).get_table_names())


def prepare(connection: Connection, name: str) -> None:
    """Lay out a new database, or check the layout of an old one and bring it up to date, in one transaction.

    `name` is what an error calls it.
    """
    if has_tables(connection):
        version = check(connection, name)
        if version == SCHEMA_VERSION:
            return
        if version == int(FIRST_REVISION) and not inspect(connection).has_table(MIGRATION.name):
            _alembic("stamp", connection, FIRST_REVISION)
        migrate(connection)
        return
    METADATA.create_all(connection)
    connection.execute(insert(MIGRATION).values(version_num=f"{SCHEMA_VERSION:04}"))
    connection.execute(insert(SCHEMA).values(version=SCHEMA_VERSION))
    connection.execute(insert(HEAD).values(sequence=GENESIS.sequence, hash=GENESIS.hash))
    connection.execute(insert(LEADER).values(epoch=0, holder="", address="", expires_at_us=0))


def migrate(connection: Connection) -> None:
    """Run the migrations that are missing."""
    _alembic("upgrade", connection, "head")


def check(connection: Connection, name: str) -> int:
    """The layout's version; `InvalidInput` unless this is a journal of a version that this program can read."""
    if not inspect(connection).has_table(SCHEMA.name):
        raise InvalidInput([Violation(name, "is a database, but not a Walras journal")])
    version = connection.execute(select(SCHEMA.c.version)).scalar()
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        description = f"has journal schema version {version}; this program knows only {SCHEMA_VERSION}"
        raise InvalidInput([Violation(name, description)])
    return version


def _alembic(command_name: str, connection: Connection, revision: str) -> None:
    from alembic import command  # half a second to load: only for those who need it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "engine.journal:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    getattr(command, command_name)(config, revision)
