"""Laws: what was acknowledged replays, in order and byte for byte, and its hash is the one anyone computes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput, Unavailable
from engine.journal import GENESIS, Entry, Head, Journal, Limits, Place, replay_files, verify
from engine.journal.schema import NEXT_EPOCH
from tests.full_size import size

BATCHES = st.lists(
    st.tuples(st.lists(st.binary(max_size=300), max_size=5), st.integers(0, 2**63 - 1), st.booleans()),
    max_size=10,
)


def slow_head(entries: list[Entry]) -> Head:
    """The dumb twin of the chain: one concatenation an entry."""
    last = bytes(32)
    for sequence, recorded_at_us, payload in entries:
        fixed = sequence.to_bytes(8, "big") + recorded_at_us.to_bytes(8, "big")
        last = hashlib.sha256(last + fixed + payload).digest()
    return Head(len(entries), last)


@settings(max_examples=size(8, 40), deadline=None)
@given(BATCHES)
def test_acknowledged_replays_in_order_byte_for_byte(
    new_place: Callable[[], Place], batches: list[tuple[list[bytes], int, bool]]
) -> None:
    expected: list[Entry] = []
    place = new_place()
    journal = Journal.open_at(place)
    for events, recorded_at_us, reopen in batches:
        receipt = journal.append(events, recorded_at_us)
        expected += [Entry(len(expected) + i, recorded_at_us, e) for i, e in enumerate(events, 1)]
        assert receipt.result() == receipt.sequence == len(expected) == journal.durable_sequence
        if reopen:
            journal.close()
            journal = Journal.open_at(place)
    journal.close()
    with Journal.open_at(place) as journal:
        assert journal.head == verify(place) == slow_head(expected)
        for after in {0, len(expected) // 2, len(expected)}:
            assert list(journal.replay(after)) == expected[after:]


@settings(max_examples=size(5, 20), deadline=None)
@given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=4), max_size=40), st.integers(1, 200))
def test_close_makes_everything_durable_however_it_is_grouped(
    new_place: Callable[[], Place], batches: list[list[bytes]], group_bytes_max: int
) -> None:
    place = new_place()
    with Journal.open_at(place, Limits(group_bytes_max=group_bytes_max)) as journal:
        receipts = [journal.append(events, 7) for events in batches]
    assert [r.result() for r in receipts] == [r.sequence for r in receipts]
    with Journal.open_at(place) as journal:
        assert [e.payload for e in journal.replay()] == [event for batch in batches for event in batch]


def test_an_empty_journal_has_the_genesis_head(place: Place) -> None:
    with Journal.open_at(place) as journal:
        assert journal.head == verify(place) == GENESIS
        assert list(journal.replay()) == []


def test_a_large_event_is_fine(place: Place) -> None:
    event = bytes(range(256)) * 40_000
    with Journal.open_at(place) as journal:
        journal.append([event, b"after"], 1).result()
        assert [entry.payload for entry in journal.replay()] == [event, b"after"]


def test_replay_after_the_end_is_refused(place: Place) -> None:
    with Journal.open_at(place) as journal:
        journal.append([b"one"], 1).result()
        for after_sequence in (2, -1):
            with pytest.raises(InvalidInput, match="after_sequence"):
                next(journal.replay(after_sequence))


def test_each_opening_begins_a_later_epoch(place: Place) -> None:
    epochs = []
    for _ in range(3):
        with Journal.open_at(place) as journal:
            epochs.append(journal.epoch)
    assert epochs == [1, 2, 3]


def test_a_writer_of_an_earlier_epoch_writes_nothing(place: Place) -> None:
    """The fence: whatever the old writer believes, its append and the new writer's cannot both succeed."""
    with Journal.open_at(place) as journal:
        journal.append([b"ours"], 1).result()
        with journal.database.writing().begin() as rival:
            rival.execute(NEXT_EPOCH)
        with pytest.raises(Unavailable, match="another writer"):
            journal.append([b"late"], 2).result()
        assert journal.failure is not None
        assert [entry.payload for entry in replay_files(place)] == [b"ours"]
