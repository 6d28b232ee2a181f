"""Restarts: the journal alone gives the state back, byte for byte, or says that it cannot (laws 4 and 10)."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from engine.domain.errors import WalrasError
from engine.journal import CorruptJournal, replay_files
from engine.journal.database import FILE_NAME
from engine.market.events import decode
from engine.service.engine import Engine, replayed
from engine.service.fleet_codec import stats_message
from engine.service.verify import verify_journal
from solvers.pools import Pools
from tests.service.loopback import Book, Clock
from tests.service.sequences import Sequence, Twin
from tests.solvers.test_pools import assert_pools_add_up

STEPS = 100
SEEDS = range(5)


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """Laws 4 and 10: after close and reopen hash, stats and head are the same, and the verifier agrees; and the
    seeds reach every command, every kind of refusal, and the forgetting of what is old."""
    outcomes: set[str] = set()
    forgot = False
    for seed in SEEDS:
        sequence = Sequence(seed, tmp_path / str(seed))
        sequence.run(STEPS)
        assert_survives_a_restart(sequence)
        outcomes |= sequence.outcomes.keys()
        forgot |= len(sequence.engine.state.leases) < len(sequence.leases)
        sequence.engine.close()
    assert outcomes >= {"LoadFleet", "SetNodeState", "IssueQuote", "DeployCluster", "DeployQuote", "ReleaseLease"}
    assert outcomes >= {"ReleaseQuote", "PublishPrices", "NoteDemand", "ExtendLease", "ShrinkLease"}
    assert outcomes >= {"Refused", "QuoteUnusable", "NotFound", "IdempotencyConflict", "Overloaded"}
    assert forgot


def assert_survives_a_restart(sequence: Sequence) -> None:
    state = sequence.engine.state
    before = state.hash(), stats_message(state), sequence.engine.journal.head
    sequence.reopen()
    state, head = sequence.engine.state, sequence.engine.journal.head
    assert (state.hash(), stats_message(state), head) == before
    report = verify_journal(sequence.data_dir)
    assert (report.state_hash, report.events, report.chain_hash) == (before[0], state.version, head.hash.hex())
    assert (report.gpus_leased, report.leases_active) == (stats_message(state).gpus_leased, state.active)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_engine_that_restarted_decides_like_one_that_did_not(tmp_path: Path, seed: int) -> None:
    """Law 10: same seed and clock, same bytes out, however often the engine was restarted in between."""
    straight, halting = Sequence(seed, tmp_path / "straight"), Sequence(seed, tmp_path / "halting")
    pauses = random.Random(seed)
    done = 0
    while done < STEPS:
        steps = min(pauses.randint(1, 50), STEPS - done)
        done += steps
        straight.run(steps)
        halting.run(steps)
        assert straight.engine.state.hash() == halting.engine.state.hash()
        halting.reopen()
    assert straight.outcomes == halting.outcomes
    assert straight.engine.journal.head == halting.engine.journal.head
    straight.engine.close()
    halting.engine.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_folding_the_events_anew_gives_the_live_inventory(tmp_path: Path, seed: int) -> None:
    """Law 1: the inventory kept in place equals what a dumb fold of all events says, and its pools add up."""
    sequence = Sequence(seed, tmp_path)
    twin, read = Twin(), 0
    for _ in range(6):
        sequence.run(STEPS // 6)
        for entry in sequence.engine.journal.replay(read):
            twin.follow(decode(entry.payload))
            read = entry.sequence
        state, inventory = sequence.engine.state, sequence.engine.state.inventory
        assert inventory.node_ids.tolist() == twin.ids
        assert inventory.leased.tolist() == [twin.leased[name] + twin.shared(name) for name in twin.ids]
        assert inventory.free.tolist() == [twin.free(name) for name in twin.ids]
        assert inventory.held.tolist() == [twin.held[name] for name in twin.ids]
        assert {name for name, quote in state.quotes.items() if quote.holds} == twin.holding.keys()
        parts = [twin.parts[name][2] for name in twin.holding if name in twin.parts]
        held = inventory.held.sum() + len(parts)  # to a tenant's limit a part is a GPU
        assert sum(map(sum, (own.values() for own in state.held_by.values()))) == held
        assert inventory.held_milli.sum() == sum(parts)
        assert (inventory.leased >= 0).all() and (inventory.held >= 0).all()
        stats = stats_message(state)
        parts = stats.gpus_free + stats.gpus_held + stats.gpus_leased + stats.gpus_draining + stats.gpus_dead
        assert parts + stats.gpus_used_outside == stats.gpus_registered, "law 1"
        assert {name for name, lease in state.leases.items() if lease.runs} == twin.running.keys()
        assert state.active == len(twin.running)
        assert_pools_add_up(inventory.pools, inventory.free)
        posted = np.array(
            [inventory.posted[inventory.market == place][0] for place in range(len(inventory.markets))]
        )
        fresh = Pools(inventory.nodes, inventory.free, inventory.market, posted, len(inventory.models))
        assert (fresh.histogram == inventory.pools.histogram).all()
    rebuilt, _ = replayed(replay_files(tmp_path))
    assert (rebuilt.inventory.pools.histogram == inventory.pools.histogram).all()
    assert (rebuilt.inventory.pools.table == inventory.pools.table).all()
    assert (np.sort(rebuilt.inventory.pools.node) == np.sort(inventory.pools.node)).all()
    sequence.engine.close()


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """Law 4: time never goes back, also not over a restart with a clock that runs late."""
    sequence = Sequence(1, tmp_path)
    sequence.run(40)
    latest_us = max(entry.recorded_at_us for entry in sequence.engine.journal.replay())
    sequence.clock.now_us -= 3_600_000_000
    assert sequence.engine.now_us() >= latest_us
    sequence.reopen()
    assert sequence.engine.now_us() == latest_us
    sequence.run(40)
    times = [entry.recorded_at_us for entry in sequence.engine.journal.replay()]
    assert times == sorted(times)
    before = sequence.engine.state.hash()
    sequence.reopen()
    assert sequence.engine.state.hash() == before
    sequence.engine.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    """A closed data directory with the hash of its state and its number of events."""
    data_dir = tmp_path_factory.mktemp("written")
    sequence = Sequence(3, data_dir)
    sequence.run(25)
    state = sequence.engine.state
    sequence.engine.close()
    return data_dir, state.hash(), state.version


def opened_hash(data_dir: Path) -> str:
    """The hash of the state that an engine on this directory would serve."""
    engine = Engine(data_dir, Book(), Clock())
    try:
        return engine.state.hash()
    finally:
        engine.close()


def copied(source: Path, target: Path) -> Path:
    """A copy of a journal's files; its path."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


@pytest.mark.parametrize("column", ["payload", "hash", "recorded_at_us"])
def test_a_changed_entry_is_reported(tmp_path: Path, written: tuple[Path, str, int], column: str) -> None:
    """Law 4: any byte changed in any stored event is CorruptJournal at that event, to engine and verifier."""
    source, _, events = written
    draw = random.Random(column)
    for sequence in [1, 2, events, *draw.sample(range(3, events), 2)]:
        data_dir = copied(source, tmp_path / "damaged")
        with sqlite3.connect(data_dir / FILE_NAME) as connection:
            where = f"FROM journal_entry WHERE sequence = {sequence}"
            (value,) = connection.execute(f"SELECT {column} {where}").fetchone()
            if isinstance(value, int):
                changed: object = value ^ 1 << draw.randrange(40)
            else:
                place = draw.randrange(len(value))
                changed = value[:place] + bytes([value[place] ^ draw.randint(1, 255)]) + value[place + 1 :]
            connection.execute(f"UPDATE journal_entry SET {column} = ? WHERE sequence = ?", (changed, sequence))
        connection.close()
        for open_it in (opened_hash, verify_journal):
            with pytest.raises(CorruptJournal) as caught:
                open_it(data_dir)
            assert caught.value.first_bad_sequence == sequence


def test_a_flipped_byte_of_the_file_is_never_served(tmp_path: Path, written: tuple[Path, str, int]) -> None:
    """Law 4: with any byte of the database file flipped the engine opens with the very same state, the byte being
    one that holds nothing, or fails with an error of the tree; the verifier likewise."""
    source, honest, _ = written
    pristine = (source / FILE_NAME).read_bytes()
    data_dir = copied(source, tmp_path / "damaged")
    draw, reported = random.Random(11), 0
    places = [*draw.sample(range(100), 8), *range(100, 112, 2), *draw.sample(range(112, len(pristine)), 26)]
    for place in places:
        damaged = bytearray(pristine)
        damaged[place] ^= draw.choice((1, 2, 3, 4, 0x80, 0xFF))
        for open_it in (lambda: verify_journal(data_dir).state_hash, lambda: opened_hash(data_dir)):
            (data_dir / FILE_NAME).write_bytes(damaged)
            for leftover in ("-wal", "-shm"):
                (data_dir / (FILE_NAME + leftover)).unlink(missing_ok=True)
            try:
                assert open_it() == honest, f"byte {place}: another state was served"
            except WalrasError:
                reported += 1
    assert reported > len(places) // 2


def test_a_journal_whose_list_of_tables_is_damaged(tmp_path: Path, written: tuple[Path, str, int]) -> None:
    """Law 4: a database that seems to have no tables, but is not empty, is damaged, not new."""
    source, _, _ = written
    data_dir = copied(source, tmp_path / "damaged")
    damaged = bytearray((data_dir / FILE_NAME).read_bytes())
    damaged[103:105] = b"\0\0"  # cells on the first page, where SQLite lists its tables
    (data_dir / FILE_NAME).write_bytes(damaged)
    with pytest.raises(WalrasError):
        opened_hash(data_dir)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_that_was_cut_short(tmp_path: Path, written: tuple[Path, str, int], kept: float) -> None:
    """Law 4: a journal whose end is missing is reported."""
    source, _, _ = written
    data_dir = copied(source, tmp_path / "damaged")
    content = (data_dir / FILE_NAME).read_bytes()
    (data_dir / FILE_NAME).write_bytes(content[: int(len(content) * kept)])
    for open_it in (opened_hash, verify_journal):
        with pytest.raises(WalrasError):
            open_it(data_dir)
