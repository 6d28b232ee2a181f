"""Snapshots: a start from one is a start from the beginning, whatever is in the state, whatever became of it."""

from __future__ import annotations

import asyncio
import threading
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sqlalchemy import delete, update

from engine.journal import Journal, Place, replay_files
from engine.journal.places import database_at
from engine.journal.schema import SNAPSHOT, SNAPSHOT_PART
from engine.journal.snapshots import KEPT, PART_BYTES, readable, save
from engine.market.inventory import Inventory
from engine.market.state import MarketState
from engine.market.state_codec import NotAState, capture, restore, state_format
from engine.service.engine import replayed
from engine.service.restoring import newest_snapshot
from engine.service.snapshot_keeper import SnapshotKeeper
from engine.service.verify import verify_journal
from solvers.spare import Cards
from tests.full_size import size
from tests.service.sequences import Sequence

STEPS = 60
SEEDS = range(size(3, 12))
DERIVED = {
    "pools",
    "placer",
    "by_price",
    "_priced",
    "_cheapest_known",
    "_at_asks",
    "freed",
    "_names_of_market",
    "_listed",
    "names_by_place",
    "demands",
    "audited_hours",
    "_curves",
    "_curves_s",
    "market_index",
    "_interruptible",
}
"""Attributes of an inventory that follow from the others, or are caches."""


def facts_of(thing: Any) -> dict[str, Any]:
    """All attributes, found by looking."""
    return {name: value for name, value in vars(thing).items() if name not in DERIVED}


def assert_alike(one: Any, other: Any, path: str) -> None:
    """Equal all the way down, arrays and tables too."""
    assert type(one) is type(other), path
    if isinstance(one, Cards):  # which row a node has follows from what happened, and no answer from it
        one, other = one.table(), other.table()
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other), path
    elif isinstance(one, pl.DataFrame):
        assert one.equals(other), path
    elif hasattr(one, "__dict__") or hasattr(one, "__slots__"):
        for name in [*getattr(one, "__dict__", ()), *getattr(one, "__slots__", ())]:
            if hasattr(one, name):
                assert_alike(getattr(one, name), getattr(other, name), f"{path}.{name}")
    else:
        assert one == other, path


def assert_same_state(one: MarketState, other: MarketState) -> None:
    for each in fields(MarketState):
        ours, theirs = getattr(one, each.name), getattr(other, each.name)
        if isinstance(ours, Inventory):
            ours_facts, theirs_facts = facts_of(ours), facts_of(theirs)
            assert ours_facts.keys() == theirs_facts.keys()
            for name, value in ours_facts.items():
                assert_alike(value, theirs_facts[name], f"inventory.{name}")
            assert hasattr(ours, "placer") == hasattr(theirs, "placer")
        else:
            assert ours == theirs, each.name
            if hasattr(ours, "keys"):
                assert list(ours) == list(theirs), f"{each.name}: the order counts, too"
    assert one.hash() == other.hash()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restored_state_is_the_state_and_decides_like_it(tmp_path: Path, seed: int) -> None:
    """Laws 4 and 10: every field of the state and every attribute of the inventory comes back, found by looking
    and not by a list; what the two decide afterwards is the same, byte for byte."""
    straight, restarted = Sequence(seed, tmp_path / "straight"), Sequence(seed, tmp_path / "restarted")
    for _ in range(3):
        straight.run(STEPS // 3)
        restarted.run(STEPS // 3)
        state = restarted.engine.state
        again = restore(capture(state)())
        assert_same_state(state, again)
        restarted.engine.state = again
    assert straight.engine.journal.head == restarted.engine.journal.head
    straight.engine.close()
    restarted.engine.close()


def test_an_empty_state_comes_back() -> None:
    assert_same_state(MarketState(), restore(capture(MarketState())()))


@pytest.mark.parametrize(
    "content", [b"", b"garbage", zlib.compress(b"\x92\xc0\xc0"), capture(MarketState())()[:-9]]
)
def test_what_is_no_state_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(NotAState):
        restore(content)


def test_a_captured_state_is_of_its_moment(tmp_path: Path) -> None:
    """What happens between capturing and writing is not in the snapshot."""
    sequence = Sequence(1, tmp_path)
    sequence.run(30)
    before, captured = sequence.engine.state.hash(), capture(sequence.engine.state)
    sequence.run(30)
    assert restore(captured()).hash() == before != sequence.engine.state.hash()
    sequence.engine.close()


def test_points_of_a_history_share_their_markets(tmp_path: Path) -> None:
    """Thousands of epochs with thousands of markets each would not fit into memory otherwise."""
    sequence = Sequence(0, tmp_path)
    sequence.run(200)
    history = sequence.engine.state.oracle.history
    again = restore(capture(sequence.engine.state)()).oracle.history
    assert len({id(point.markets) for point in again}) <= len({id(point.markets) for point in history})
    sequence.engine.close()


def snapshotted(place: Path, rounds: int = 3) -> Sequence:
    """A sequence with so many snapshots taken on the way, more events after the last."""
    sequence = Sequence(5, place)
    for _ in range(rounds):
        sequence.run(20)
        asyncio.run(SnapshotKeeper(sequence.engine, 1).tick())
    sequence.run(10)
    return sequence


def sequences_of(place: Place) -> list[int]:
    return [each.sequence for each in readable(database_at(place), state_format())]


def test_a_start_replays_only_what_came_after_the_snapshot(tmp_path: Path) -> None:
    sequence = snapshotted(tmp_path)
    before, taken = sequence.engine.state.hash(), sequence.engine.snapshot_sequence
    sequence.reopen()
    assert sequence.engine.snapshot_sequence == taken > 0
    assert sequence.engine.state.hash() == before == verify_journal(tmp_path).state_hash
    assert sequences_of(tmp_path)[0] == taken and len(sequences_of(tmp_path)) == KEPT
    sequence.engine.close()
    state, _ = replayed(replay_files(tmp_path))
    assert state.hash() == before, "with and without snapshot"


@pytest.mark.parametrize("damaged", [1, KEPT])
@pytest.mark.parametrize(
    "harm",
    [
        update(SNAPSHOT_PART).values(payload=b"bit rot"),
        delete(SNAPSHOT_PART),
        update(SNAPSHOT).values(content_hash=bytes(32)),
        update(SNAPSHOT).values(chain_hash=bytes(32)),
        update(SNAPSHOT).values(format="walras-state-of-another-version"),
    ],
)
def test_a_damaged_snapshot_is_passed_over(tmp_path: Path, harm: Any, damaged: int) -> None:
    """Law 4: for the older one, or for the journal itself; the state is the same."""
    sequence = snapshotted(tmp_path)
    before, taken = sequence.engine.state.hash(), sequences_of(tmp_path)
    with sequence.engine.journal.database.writing().begin() as connection:
        connection.execute(harm.where(harm.table.c.sequence.in_(taken[:damaged])))
    sequence.reopen()
    assert sequence.engine.snapshot_sequence == [*taken, 0][damaged]
    assert sequence.engine.state.hash() == before
    sequence.engine.close()


def test_snapshots_larger_than_a_part_in_either_database(tmp_path: Path, postgres: Any) -> None:
    content = bytes(range(256)) * (PART_BYTES // 100)
    for place in (tmp_path, postgres.new_url()):
        sequence = _one_entry(place)
        for _ in range(2):  # saving it again changes nothing
            save(database_at(place), sequence, "any", content)
        (snapshot,) = readable(database_at(place), "any")
        assert snapshot == (sequence, 77, content)
        assert list(readable(database_at(place), "other")) == []


def test_snapshots_and_appends_do_not_refuse_each_other(tmp_path: Path, postgres: Any) -> None:
    """Law 4: both are writers of the same database, at the same time."""
    for place in (tmp_path, postgres.new_url()):
        with Journal.open_at(place) as journal:
            journal.append([b"first"], 1).result()
            stop = threading.Event()

            def append(journal: Journal = journal, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    journal.append([b"more"], 1).result()

            appender = threading.Thread(target=append)
            appender.start()
            try:
                for number in range(20):
                    save(journal.database, journal.durable_sequence, "any", b"%d" % number)
            finally:
                stop.set()
                appender.join()
            assert journal.failure is None
            assert next(readable(journal.database, "any")).content == b"19"


def _one_entry(place: Place) -> int:
    with Journal.open_at(place) as journal:
        return journal.append([b"one"], 77).result()


def test_verify_holds_snapshots_against_the_replay(tmp_path: Path) -> None:
    """A snapshot whose hashes are right and whose state is wrong is found."""
    sequence = snapshotted(tmp_path)
    sequence.engine.close()
    assert verify_journal(tmp_path).snapshots == KEPT
    wrong = newest_snapshot(database_at(tmp_path))
    wrong.state.active += 1
    wrong.state.fleet_version += 1
    save(database_at(tmp_path), wrong.sequence, state_format(), capture(wrong.state)())
    with pytest.raises(Exception, match="snapshot"):
        verify_journal(tmp_path)
