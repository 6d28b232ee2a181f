"""Opening: directories, locks, versions, and files that are something else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from engine.domain.errors import InvalidInput, Unavailable
from engine.journal import Journal, verify
from engine.journal.database import FILE_NAME


def test_directories_are_made_whatever_their_names(tmp_path: Path) -> None:
    data_dir = tmp_path / "a b?c" / "#%20&=" / "ü"
    with Journal.open(data_dir) as journal:
        journal.append([b"one"], 1).result()
    assert verify(data_dir).sequence == 1


def test_a_url_names_the_same_journal(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append([b"one"], 1)
    with Journal.open_url(f"sqlite:///{tmp_path / FILE_NAME}") as journal:
        assert journal.durable_sequence == 1


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://host/db", "postgresql://host", "sqlite://", "sqlite:///x?mode=ro"]
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="database-url"):
        Journal.open_url(url)


def test_a_second_opener_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        with pytest.raises(Unavailable, match="in use by another engine"):
            Journal.open(tmp_path)
        assert journal.append([b"one"], 1).result() == 1
    with Journal.open(tmp_path) as journal:
        assert journal.durable_sequence == 1


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    with connection:
        connection.execute("UPDATE journal_schema SET version = 99")
    connection.close()
    for opening in (Journal.open, verify):
        with pytest.raises(InvalidInput, match=rf"{FILE_NAME}: has journal schema version 99"):
            opening(tmp_path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"not a database, but long enough to look at " * 100)
    before = file.read_bytes()
    for opening in (Journal.open, verify):
        with pytest.raises(InvalidInput, match=f"{FILE_NAME}: is not a Walras journal"):
            opening(tmp_path)
    assert file.read_bytes() == before


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    before = file.read_bytes()
    for opening in (Journal.open, verify):
        with pytest.raises(InvalidInput, match="not a Walras journal"):
            opening(tmp_path)
    assert file.read_bytes() == before


def test_a_refused_opening_lets_the_next_one_in(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"garbage" * 1_000)
    with pytest.raises(InvalidInput):
        Journal.open(tmp_path)
    file.unlink()
    Journal.open(tmp_path).close()


def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for data_dir in (file, file / "below"):
        with pytest.raises(InvalidInput, match="file"):
            Journal.open(data_dir)


def test_verify_without_a_journal_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        verify(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
