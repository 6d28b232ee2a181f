"""Layouts: old journals go on, new ones are laid out as the migrations would, and both databases alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, inspect

from engine.domain.errors import InvalidInput
from engine.journal import Journal, Place, replay_files, verify
from engine.journal.chain import GENESIS, extend
from engine.journal.database import FILE_NAME
from engine.journal.layout import check, migrate, prepare
from engine.journal.places import database_at
from engine.journal.schema import METADATA, SCHEMA_VERSION

VERSION_1 = """
CREATE TABLE journal_schema (version INTEGER NOT NULL) STRICT;
CREATE TABLE journal_entry (
  sequence INTEGER NOT NULL, recorded_at_us INTEGER NOT NULL, hash BLOB NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (sequence)) STRICT;
CREATE TABLE journal_head (sequence INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
INSERT INTO journal_schema VALUES (1);
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A journal as version 1 of the layout left it, with two entries."""
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.executescript(VERSION_1)
    head = GENESIS
    for payload in (b"one", b"two"):
        head = extend(head, 7, payload)
        connection.execute("INSERT INTO journal_entry VALUES (?, 7, ?, ?)", (head.sequence, head.hash, payload))
    connection.execute("INSERT INTO journal_head VALUES (?, ?)", head)
    connection.commit()
    connection.close()
    return tmp_path


def test_a_journal_of_before_migrations_is_read_as_it_is(old: Path) -> None:
    before = (old / FILE_NAME).read_bytes()
    assert verify(old).sequence == 2
    assert [entry.payload for entry in replay_files(old)] == [b"one", b"two"]
    assert (old / FILE_NAME).read_bytes() == before


def test_a_journal_of_before_migrations_goes_on(old: Path) -> None:
    for expected in (3, 4):  # the second time there is nothing to migrate
        with Journal.open(old) as journal:
            assert journal.append([b"more"], 8).result() == expected
    assert verify(old).sequence == 4
    with database_at(old).reading().begin() as connection:
        assert check(connection, "") == SCHEMA_VERSION


def test_new_journals_are_laid_out_as_the_migrations_would(new_place: Callable[[], Place]) -> None:
    laid_out, migrated = new_place(), new_place()
    with database_at(laid_out).writing().begin() as connection:
        prepare(connection, "")
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        ours = described(connection)
    with database_at(migrated).writing().begin() as connection:
        migrate(connection)
        assert described(connection) == ours
    with Journal.open_at(migrated) as journal:
        assert journal.append([b"one"], 1).result() == 1


def described(connection: Any) -> dict[str, Any]:
    """Tables with their columns and keys, and the rows that are there from the beginning."""
    inspector = inspect(connection)
    found: dict[str, Any] = {}
    held = MetaData()
    held.reflect(connection)
    for name in inspector.get_table_names():
        columns = [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)]
        rows = [tuple(row) for row in connection.execute(held.tables[name].select())]
        found[name] = columns, inspector.get_pk_constraint(name)["constrained_columns"], rows
    return found


def test_two_engines_that_lay_out_the_same_database_at_once(postgres: Any) -> None:
    url, failures = postgres.new_url(), []

    def open_it() -> None:
        try:
            Journal.open_url(url).close()
        except Exception as error:
            if "another engine leads" not in str(error):
                failures.append(error)

    threads = [Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert verify(url) == GENESIS


def test_a_database_of_something_else_is_refused_and_left_alone(postgres: Any) -> None:
    url = postgres.new_url()
    schema = url.rpartition("%3D")[2]
    postgres.sql(f"CREATE TABLE {schema}.other (x int)")
    for opening in (Journal.open_url, verify):
        with pytest.raises(InvalidInput, match="not a Walras journal"):
            opening(url)
    assert postgres.sql(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == [(1,)]


def test_a_password_is_never_said() -> None:
    url = "postgresql://walras:geheim@127.0.0.1:1/journal?connect_timeout=1"
    with pytest.raises(Exception) as caught:
        Journal.open_url(url)
    assert "geheim" not in str(caught.value) and "127.0.0.1" in str(caught.value)
