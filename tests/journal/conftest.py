"""What the journal's tests share: a way to stall the writer, and a count of what reached the disk."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from engine.journal import Place
from engine.journal.database import FILE_NAME


@pytest.fixture
def stalled() -> Callable[[Path], AbstractContextManager[None]]:
    """Hold SQLite's write lock from outside, so that no commit can get through meanwhile."""

    @contextmanager
    def stall(data_dir: Path) -> Iterator[None]:
        connection = sqlite3.connect(data_dir / FILE_NAME, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    return stall


@pytest.fixture
def transactions() -> Callable[[Path], int]:
    """Count the commits in the write-ahead log from its bytes: frames that carry a database size."""

    def count(data_dir: Path) -> int:
        log = (data_dir / f"{FILE_NAME}-wal").read_bytes()
        page_bytes, salt = struct.unpack_from(">I", log, 8)[0], log[16:24]
        frames = range(32, len(log), 24 + page_bytes)
        return sum(log[at + 8 : at + 16] == salt and log[at + 4 : at + 8] != bytes(4) for at in frames)

    return count


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    """Empty places for journals, in either database: one law for both."""
    if request.param == "sqlite":
        return lambda: tmp_path_factory.mktemp("journal")
    new_url: Callable[[], Place] = request.getfixturevalue("postgres").new_url
    return new_url


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    """One of them."""
    return new_place()
