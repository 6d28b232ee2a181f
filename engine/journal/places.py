"""Where a journal is: a data directory, a database URL, or a database at hand."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from engine.domain.errors import InvalidInput, Violation
from engine.journal.database import FILE_NAME, Database
from engine.journal.postgres import DRIVER, PostgresDatabase
from engine.journal.sqlite import SqliteDatabase

Place = Path | str | Database
"""A data directory; a URL, `postgresql://…` (also `postgresql+psycopg://…`) or `sqlite:///path`; a database."""


def database_at(place: Place) -> Database:
    """The database at a place; `InvalidInput` if a URL names none that can be used. Nothing is opened."""
    if isinstance(place, Path):
        return SqliteDatabase(place / FILE_NAME)
    if not isinstance(place, str):
        return place
    try:
        url = make_url(place)
    except ArgumentError:
        raise InvalidInput([Violation("database-url", "is not a database URL")]) from None
    if url.drivername in ("postgresql", DRIVER):
        return _postgres(url)
    if url.drivername == "sqlite":
        return SqliteDatabase(_file_of(url))
    description = f"{url.drivername} is not supported; use postgresql://… or sqlite:///path"
    raise InvalidInput([Violation("database-url", description)])


def shown(place: Place) -> str:
    """The place for people, without a password."""
    return str(place) if isinstance(place, Path) else database_at(place).name


def _postgres(url: URL) -> PostgresDatabase:
    if not url.database:
        raise InvalidInput([Violation("database-url", "must name a database, as in postgresql://host/walras")])
    return PostgresDatabase(url)


def _file_of(url: URL) -> Path:
    if not url.database or url.database == ":memory:" or url.query:
        raise InvalidInput([Violation("database-url", "must name a plain file, as in sqlite:///path")])
    return Path(url.database)
