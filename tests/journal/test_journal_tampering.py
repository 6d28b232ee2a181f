"""Laws: no change to what is stored goes unnoticed, and damage is a typed error, whatever the damage."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput, Unavailable
from engine.journal import CorruptJournal, Entry, Journal, verify
from engine.journal.database import FILE_NAME
from engine.journal.places import database_at
from engine.journal.reader import replay

LAST = 12
SEQUENCES = st.integers(1, LAST)


def payload(sequence: int) -> bytes:
    return b"payload %d" % sequence * sequence


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("pristine")
    with Journal.open(data_dir) as journal:
        journal.append([payload(sequence) for sequence in range(1, LAST + 1)], 1_000)
    return data_dir / FILE_NAME


class Tampered:
    """A copy of the pristine journal to do harm to."""

    def __init__(self, pristine: Path, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.file = data_dir / FILE_NAME
        shutil.copy(pristine, self.file)

    def sql(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.file)
        with connection:
            assert connection.execute(statement, values).rowcount > 0
        connection.close()

    def row(self, sequence: int) -> dict[str, object]:
        connection = sqlite3.connect(self.file)
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT * FROM journal_entry WHERE sequence = ?", (sequence,)).fetchone()
        connection.close()
        return dict(row)

    def first_bad_sequence(self) -> int:
        with pytest.raises(CorruptJournal) as caught:
            verify(self.data_dir)
        return caught.value.first_bad_sequence


@pytest.fixture
def tampered(pristine: Path, tmp_path: Path) -> Tampered:
    return Tampered(pristine, tmp_path)


def each_tampered(pristine: Path) -> Iterator[Tampered]:
    with TemporaryDirectory() as name:
        yield Tampered(pristine, Path(name))


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, st.sampled_from(["payload", "hash"]), st.integers(0), st.integers(0, 7))
def test_any_flipped_bit_of_a_row_is_found(pristine: Path, sequence: int, column: str, at: int, bit: int) -> None:
    for tampered in each_tampered(pristine):
        value = bytearray(tampered.row(sequence)[column])  # type: ignore[arg-type]
        value[at % len(value)] ^= 1 << bit
        tampered.sql(f"UPDATE journal_entry SET {column} = ? WHERE sequence = ?", bytes(value), sequence)
        assert tampered.first_bad_sequence() == sequence


@pytest.mark.parametrize("sequence", range(1, LAST + 1))
def test_a_changed_time_is_found(tampered: Tampered, sequence: int) -> None:
    tampered.sql("UPDATE journal_entry SET recorded_at_us = 1001 WHERE sequence = ?", sequence)
    assert tampered.first_bad_sequence() == sequence


@pytest.mark.parametrize("sequence", range(1, LAST + 1))
def test_a_removed_row_is_found_the_last_one_too(tampered: Tampered, sequence: int) -> None:
    tampered.sql("DELETE FROM journal_entry WHERE sequence = ?", sequence)
    assert tampered.first_bad_sequence() == sequence


def test_a_truncated_journal_is_found(tampered: Tampered) -> None:
    tampered.sql("DELETE FROM journal_entry WHERE sequence > 5")
    assert tampered.first_bad_sequence() == 6
    with pytest.raises(CorruptJournal):
        Journal.open(tampered.data_dir)


@settings(max_examples=30, deadline=None)
@given(SEQUENCES, SEQUENCES)
def test_reordered_rows_are_found(pristine: Path, one: int, other: int) -> None:
    if one == other:
        return
    for tampered in each_tampered(pristine):
        first, second = tampered.row(one), tampered.row(other)
        for sequence, row in ((one, second), (other, first)):
            tampered.sql(
                "UPDATE journal_entry SET payload = ?, hash = ? WHERE sequence = ?",
                row["payload"], row["hash"], sequence,
            )  # fmt: skip
        assert tampered.first_bad_sequence() in (one, other)


def test_an_added_row_is_found(tampered: Tampered) -> None:
    tampered.sql("INSERT INTO journal_entry VALUES (?, 1, zeroblob(32), x'00')", LAST + 1)
    assert tampered.first_bad_sequence() == LAST + 1


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM journal_head",
        "UPDATE journal_head SET sequence = 5",
        "UPDATE journal_head SET sequence = 13",
        "UPDATE journal_head SET hash = zeroblob(32)",
        "INSERT INTO journal_head VALUES (5, zeroblob(32), 0)",
    ],
)
def test_a_wrong_head_is_found_and_refused_at_opening(tampered: Tampered, harm: str) -> None:
    tampered.sql(harm)
    tampered.first_bad_sequence()
    with pytest.raises(CorruptJournal):
        Journal.open(tampered.data_dir)


def test_a_head_set_back_with_its_own_hash_is_found(tampered: Tampered) -> None:
    tampered.sql("UPDATE journal_head SET sequence = 5, hash = ?", tampered.row(5)["hash"])
    assert tampered.first_bad_sequence() == 6


def test_a_gap_before_the_replayed_part_is_found(tampered: Tampered) -> None:
    tampered.sql("DELETE FROM journal_entry WHERE sequence = 5")
    with Journal.open(tampered.data_dir) as journal:
        assert [entry.sequence for entry in journal.replay(6)] == [7, 8, 9, 10, 11, 12]
        with pytest.raises(CorruptJournal, match="sequence 5"):
            next(journal.replay(5))


@settings(max_examples=150, deadline=None)
@given(st.integers(0), st.integers(1, 255))
def test_any_changed_byte_of_the_file_is_found_or_changes_nothing(
    pristine: Path, at: int, difference: int
) -> None:
    for tampered in each_tampered(pristine):
        content = bytearray(tampered.file.read_bytes())
        content[at % len(content)] ^= difference
        tampered.file.write_bytes(content)
        try:
            verify(tampered.data_dir)
        except (CorruptJournal, InvalidInput, Unavailable):
            continue
        entries = list(replay(database_at(tampered.data_dir), 0))
        assert entries == [Entry(sequence, 1_000, payload(sequence)) for sequence in range(1, LAST + 1)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0))
def test_a_file_cut_short_is_found(pristine: Path, size_bytes: int) -> None:
    for tampered in each_tampered(pristine):
        content = tampered.file.read_bytes()
        tampered.file.write_bytes(content[: size_bytes % len(content)])
        with pytest.raises((CorruptJournal, InvalidInput, Unavailable)):
            verify(tampered.data_dir)
