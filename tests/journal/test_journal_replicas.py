"""Laws of a shared journal: one writer at any time, whoever believes what; followers see what is durable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from engine.domain.errors import NotLeader, Unavailable
from engine.journal import CorruptJournal, Following, Journal, verify
from engine.journal.claims import Claim
from engine.journal.following import STALE_S
from engine.journal.leadership import Leadership
from tests.postgres import Cluster

LONG_S = 60.0
Opener = Callable[..., Journal]


@pytest.fixture
def url(postgres: Cluster) -> str:
    return postgres.new_url()


@pytest.fixture
def opened(url: str) -> Iterator[Opener]:
    """Open a journal as a process of its own would; all are closed in the end."""
    journals: list[Journal] = []

    def open_it(address: str = "", lease_s: float = LONG_S) -> Journal:
        journals.append(Journal.open_at(url, address=address, lease_s=lease_s))
        return journals[-1]

    yield open_it
    for journal in journals:
        journal.close()


def leadership(journal: Journal) -> Leadership:
    claim: Claim = journal._claim
    assert isinstance(claim, Leadership)
    return claim


def expire(postgres: Cluster, url: str) -> None:
    """The lease runs out, as it does when its holder is paused."""
    schema = url.rpartition("%3D")[2]
    postgres.sql(f"UPDATE {schema}.journal_leader SET expires_at_us = 1")


def test_a_second_leader_is_refused_with_the_address_of_the_first(opened: Opener) -> None:
    with opened("10.0.0.1:7070"):
        with pytest.raises(NotLeader) as caught:
            opened()
        assert (caught.value.address, caught.value.metadata) == ("10.0.0.1:7070", {"leader": "10.0.0.1:7070"})
    assert opened().epoch == 2, "after a clean end the next one need not wait"


def test_a_leader_that_was_paused_and_replaced_writes_nothing(opened: Opener, postgres: Cluster, url: str) -> None:
    """Whatever the first one believes about its lease, the second one's epoch stands in its way."""
    first = opened()
    first.append([b"one"], 1).result()
    expire(postgres, url)
    second = opened()
    second.append([b"two"], 2).result()
    assert leadership(first).is_held, "it has noticed nothing: only the epoch is left to stop it"
    with pytest.raises(Unavailable, match="earlier epoch"):
        first.append([b"stale"], 3).result()
    second.append([b"three"], 4).result()
    assert [entry.payload for entry in second.replay()] == [b"one", b"two", b"three"]
    assert verify(url) == second.head


def test_a_deposed_leader_notices_by_its_heartbeat(opened: Opener, postgres: Cluster, url: str) -> None:
    first = opened()
    expire(postgres, url)
    opened()
    leadership(first)._renew(LONG_S)
    assert first.is_deposed
    for events in ([b"stale"], []):  # a read asks for an empty receipt
        with pytest.raises(Unavailable, match="only writer"):
            first.append(events, 1)


def test_a_leader_cut_off_for_its_lease_answers_nothing(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before another can have begun it refuses reads and writes, by its own monotonic clock."""
    journal = opened()
    later_s = time.monotonic() + LONG_S
    monkeypatch.setattr("engine.journal.leadership.time.monotonic", lambda: later_s)
    for events in ([b"late"], []):
        with pytest.raises(Unavailable, match="only writer"):
            journal.append(events, 1)


def test_a_lease_of_a_leader_that_died_runs_out(opened: Opener, postgres: Cluster, url: str) -> None:
    first = opened(lease_s=1.0)
    dead = leadership(first)
    dead._ended.set()  # no heartbeat any more
    dead._thread.join()
    dead.is_lost = True  # nor a release at the end
    following = Following.open_url(url)
    for _ in range(2_000):
        following.poll()
        if not following.leader.is_alive:
            break
    following.close()
    assert opened().epoch == 2


def test_followers_read_what_is_durable_in_order(opened: Opener, url: str) -> None:
    following = Following.open_url(url)
    assert list(following.entries_after(0)) == []
    journal = opened("leader:1")
    seen = []
    for number in range(5):
        journal.append([b"%d" % number, b"more"], number).result()
        seen += following.poll()
    assert seen == list(journal.replay())
    assert following.head == journal.head
    with pytest.raises(NotLeader) as caught:
        following.append([b"mine"], 1)
    assert caught.value.address == "leader:1"
    assert following.append([], 1).result() == 10
    following.close()


def test_a_follower_that_cannot_read_any_more_answers_nothing(
    opened: Opener, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it shows is never older than it says."""
    journal, following = opened(), Following.open_url(url)
    journal.append([b"one"], 1).result()
    following.poll()
    later_s = time.monotonic() + STALE_S + 0.1
    monkeypatch.setattr("engine.journal.following.time.monotonic", lambda: later_s)
    with pytest.raises(Unavailable, match="could not be read"):
        following.append([], 1)
    following.poll()
    assert following.append([], 1).result() == 1
    following.close()


def test_followers_do_not_serve_bit_rot(opened: Opener, postgres: Cluster, url: str) -> None:
    journal, following = opened(), Following.open_url(url)
    journal.append([b"one", b"two", b"three"], 1).result()
    schema = url.rpartition("%3D")[2]
    postgres.sql(f"UPDATE {schema}.journal_entry SET payload = 'twO' WHERE sequence = 2")
    for _ in range(2):
        with pytest.raises(CorruptJournal) as caught:
            following.poll()
        assert caught.value.first_bad_sequence == 2
    following.close()


def test_a_database_that_lost_what_it_had_shown_is_noticed(opened: Opener, postgres: Cluster, url: str) -> None:
    """What an asynchronous standby does after a failover."""
    journal, following = opened(), Following.open_url(url)
    journal.append([b"one", b"two"], 1).result()
    following.poll()
    schema = url.rpartition("%3D")[2]
    postgres.sql(f"UPDATE {schema}.journal_head SET sequence = 1")
    with pytest.raises(CorruptJournal, match="were there before"):
        following.poll()
    following.close()


def test_followers_outlive_a_restart_of_the_database(opened: Opener, postgres: Cluster, url: str) -> None:
    journal, following = opened(), Following.open_url(url)
    journal.append([b"one"], 1).result()
    assert len(following.poll()) == 1
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'walras'")
    journal.append([b"two"], 1).result()
    with pytest.raises(Unavailable):
        following.poll()
    assert [entry.payload for entry in following.poll()] == [b"two"]
    following.close()


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_of_unknown_outcome_is_resolved_by_the_head(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """The connection breaks around a COMMIT: whether it happened or not, the entries are there once."""
    journal = opened()
    pen = journal._writer._pen
    write, broken = pen._write, []

    def breaking(*arguments: Any) -> None:
        if broken or committed:
            write(*arguments)
        if not broken:
            broken.append(True)
            raise OperationalError("COMMIT", {}, psycopg.OperationalError("the server is gone"))

    monkeypatch.setattr(pen, "_write", breaking)
    assert journal.append([b"one", b"two"], 1).result() == 2
    assert journal.append([b"three"], 1).result() == 3
    assert [entry.payload for entry in journal.replay()] == [b"one", b"two", b"three"]
    assert journal.failure is None
