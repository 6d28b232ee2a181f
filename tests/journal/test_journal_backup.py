"""Laws of copies: what comes back is what was there, in either database; a harmed copy comes back nowhere."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput, NotLeader, Unavailable
from engine.journal import GENESIS, Entry, Journal, Place, back_up, replay_files, restore_backup, verify
from engine.journal.backup import MAGIC, read
from engine.journal.database import FILE_NAME
from tests.full_size import size

ROOT = Path(__file__).parents[2]
EVENTS = [b"", b"one", b"two" * 1_000, bytes(range(256))]


def filled(place: Place) -> list[Entry]:
    with Journal.open_at(place) as journal:
        for number, event in enumerate(EVENTS):
            journal.append([event, b"and"], number).result()
        return list(journal.replay())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a copy."""
    place = tmp_path_factory.mktemp("copied")
    filled(place)
    back_up(place, place / "copy")
    return (place / "copy").read_bytes()


def test_a_copy_from_either_database_comes_back_in_both(place: Place, tmp_path: Path, postgres: object) -> None:
    entries = filled(place)
    head = back_up(place, tmp_path / "copy")
    assert head == verify(place)
    new_url: Callable[[], str] = postgres.new_url  # type: ignore[attr-defined]
    for target in (tmp_path / "restored", new_url()):
        assert restore_backup(tmp_path / "copy", target) == verify(target) == head
        assert list(replay_files(target)) == entries
        with Journal.open_at(target) as journal:
            assert journal.append([b"goes on"], 9).result() == head.sequence + 1


def test_a_copy_beside_a_running_engine_is_of_one_moment(place: Place, tmp_path: Path) -> None:
    with Journal.open_at(place) as journal:
        receipts = [journal.append([b"%d" % number] * 3, number) for number in range(200)]
        receipts[100].result()
        head = back_up(place, tmp_path / "copy")
        assert head.sequence % 3 == 0 and head.sequence >= 303
        with (tmp_path / "copy").open("rb") as source:
            heads = [each for each, _ in read(source, "copy")]
        assert heads[-1] == head


def test_an_empty_journal_can_be_copied(place: Place, tmp_path: Path) -> None:
    Journal.open_at(place).close()
    assert back_up(place, tmp_path / "copy") == GENESIS
    assert restore_backup(tmp_path / "copy", tmp_path / "restored") == GENESIS


def test_what_is_there_is_not_overwritten(place: Place, tmp_path: Path) -> None:
    entries = filled(place)
    back_up(place, tmp_path / "copy")
    with pytest.raises(InvalidInput, match="there already"):
        back_up(place, tmp_path / "copy")
    with pytest.raises(InvalidInput, match="holds a journal already"):
        restore_backup(tmp_path / "copy", place)
    assert list(replay_files(place)) == entries
    with Journal.open_at(place), pytest.raises((Unavailable, NotLeader)):
        restore_backup(tmp_path / "copy", place)


def refused_and_gone(content: bytes, place: Path) -> None:
    """Restoring this copy is refused, and makes nothing: an empty journal would verify and serve."""
    (place / "copy").write_bytes(content)
    with pytest.raises(InvalidInput, match="copy"):
        restore_backup(place / "copy", place / "data")
    assert not (place / "data").exists()


@settings(max_examples=size(20, 100), deadline=None)
@given(at=st.integers(0), difference=st.integers(1, 255))
def test_any_changed_byte_is_refused(
    copy: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, difference: int
) -> None:
    harmed = bytearray(copy)
    harmed[at % len(copy)] ^= difference
    refused_and_gone(bytes(harmed), tmp_path_factory.mktemp("harmed"))


@settings(max_examples=size(10, 50), deadline=None)
@given(kept=st.integers(0))
def test_a_copy_cut_short_is_refused(copy: bytes, tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    refused_and_gone(copy[: kept % len(copy)], tmp_path_factory.mktemp("cut"))


def test_a_copy_that_goes_on_or_begins_anew_is_refused(copy: bytes, tmp_path: Path) -> None:
    refused_and_gone(copy + b"\0", tmp_path)
    refused_and_gone(copy + copy[len(MAGIC) :], tmp_path)


def test_a_refused_copy_makes_no_tables_in_postgresql(copy: bytes, tmp_path: Path, postgres: object) -> None:
    url = postgres.new_url()  # type: ignore[attr-defined]
    (tmp_path / "copy").write_bytes(copy[:-1])
    with pytest.raises(InvalidInput, match="cut short"):
        restore_backup(tmp_path / "copy", url)
    with pytest.raises(InvalidInput, match="not a Walras journal"):
        verify(url)
    (tmp_path / "copy").write_bytes(copy)
    assert restore_backup(tmp_path / "copy", url) == verify(url)


def test_a_pipe_is_no_copy(copy: bytes, tmp_path: Path) -> None:
    """A copy is proven before it is restored, and a pipe gives its bytes once."""
    source, sink = os.pipe()
    with os.fdopen(sink, "wb") as into:
        into.write(copy[:100])
    with pytest.raises(InvalidInput, match="pipe"):
        restore_backup(Path(f"/dev/fd/{source}"), tmp_path / "data")
    os.close(source)
    assert not (tmp_path / "data").exists()


def test_the_file_of_another_program_stays_as_it_is(copy: bytes, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(copy)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        other.execute("CREATE TABLE theirs (id)")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(InvalidInput, match="not a Walras journal"):
        restore_backup(tmp_path / "copy", tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


KILLED_HALFWAY = """
import os, signal, sys
from pathlib import Path
from engine.journal import backup
append = backup._append
def killed(connection, entries):
    append(connection, entries)
    os.kill(os.getpid(), signal.SIGKILL)
backup._append = killed
place = sys.argv[2]
backup.restore_backup(Path(sys.argv[1]), place if "://" in place else Path(place))
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_restore_that_is_killed_leaves_no_journal(
    database: str, copy: bytes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Law: all or nothing. An empty journal would verify, and be served, like any other."""
    (tmp_path / "copy").write_bytes(copy)
    target: Place = tmp_path / "data"
    if database == "postgres":
        target = request.getfixturevalue("postgres").new_url()
    command = [sys.executable, "-c", KILLED_HALFWAY, str(tmp_path / "copy"), str(target)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with pytest.raises(InvalidInput, match="not a Walras journal"):
        verify(target)
    assert restore_backup(tmp_path / "copy", target) == verify(target)
