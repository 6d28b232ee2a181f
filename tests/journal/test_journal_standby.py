"""Law 4 over the loss of a database server: a primary with a synchronous standby, both crashed, under load.

The tests share the pair and run in this order.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.domain.errors import Overloaded, Unavailable
from engine.journal import Journal, Limits, replay_files, verify
from tests.full_size import size
from tests.postgres import Cluster, cluster

WAIT_S = 60.0
STANDBY = "walras_standby"
APPENDERS = 4


class Pair:
    """A primary, a standby that confirms every commit, and the URL that finds whichever takes writes."""

    def __init__(self, primary: Cluster, standby: Cluster) -> None:
        self.primary, self.standby = primary, standby
        standby.copy_from(primary, STANDBY)
        standby.start()
        primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
        primary.sql("SELECT pg_reload_conf()")
        until(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == [("sync",)])

    @property
    def url(self) -> str:
        hosts = f"host={self.primary.place}&host={self.standby.place}"
        return f"postgresql://walras@/postgres?{hosts}&target_session_attrs=read-write"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    place = Path(tempfile.mkdtemp(prefix="walras-pg-standby-"))
    with cluster() as primary:
        standby = Cluster(place, wal_retrieve_retry_interval="100ms")
        try:
            yield Pair(primary, standby)
        finally:
            standby.crash()
            shutil.rmtree(place, ignore_errors=True)


def until(holds: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


class Load:
    """Threads that append one event after the other and remember what was acknowledged."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal, self._name = journal, name
        self.acknowledged: dict[int, bytes] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._append, args=(n,)) for n in range(APPENDERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait until so many more were acknowledged."""
        enough = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= enough)

    def _append(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            event = f"{self._name}-{number}-{count}".encode()
            try:
                self.acknowledged[self._journal.append([event], count).result(WAIT_S)] = event
            except (Unavailable, Overloaded):
                time.sleep(0.05)


def assert_nothing_lost(url: str, *loads: Load) -> None:
    there = {entry.sequence: entry.payload for entry in replay_files(url)}
    for load in loads:
        assert load.acknowledged.items() <= there.items()
    assert len(set(there.values())) == len(there), "an append of unknown outcome was written twice"


def test_who_leads_without_a_synchronous_standby_is_told_what_that_may_cost(
    pair: Pair, postgres: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    warned = "synchronous standby: its failover may lose"
    Journal.open_url(pair.url).close()
    assert warned not in caplog.text
    Journal.open_url(postgres.new_url()).close()
    assert warned in caplog.text


def test_a_primary_that_crashes_and_comes_back_loses_nothing(pair: Pair) -> None:
    with Journal.open_url(pair.url) as journal, Load(journal, "crash") as load:
        for _ in range(size(1, 10)):
            load.more(50)
            pair.primary.crash()
            pair.primary.start()
        load.more(50)
        assert journal.failure is None, "it found out by itself what became of its commits"
    assert_nothing_lost(pair.url, load)


def test_without_the_standby_writes_are_refused_and_not_lost(pair: Pair) -> None:
    """Nothing is acknowledged, nothing hangs; what was under way happens when the standby is back."""

    async def refused(journal: Journal) -> int:
        receipt = journal.append([b"alone"], 1)
        waiting = asyncio.ensure_future(journal.wait_durable(receipt.sequence))
        while not waiting.done():
            journal.refuse_stalled()
            await asyncio.sleep(0.05)
        with pytest.raises(Unavailable, match="not confirmed"):
            await waiting
        return receipt.sequence

    with Journal.open_url(pair.url, Limits(stall_s=1)) as journal:
        journal.append([b"together"], 1).result()
        pair.standby.crash()
        sequence = asyncio.run(refused(journal))
        with pytest.raises(Unavailable, match="nothing became durable"):
            journal.append([b"more"], 2)
        assert all(entry.payload != b"alone" for entry in replay_files(pair.url)), "nobody sees it"
        waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        pair.primary.sql(f"SELECT pg_cancel_backend(pid) {waiting}")  # the COMMIT then succeeds, with a warning
        until(lambda: "canceling wait" in (journal._writer._pen.trouble or ""))
        until(lambda: len(pair.primary.sql(f"SELECT 1 {waiting}")) > 0)
        pair.primary.crash()  # afterwards the server shows what no standby has
        pair.primary.start()
        until(lambda: any(entry.payload == b"alone" for entry in replay_files(pair.url)))
        assert journal.durable_sequence < sequence, "seen, and still not confirmed"
        pair.standby.start()
        until(lambda: journal.durable_sequence >= sequence)
        assert journal.append([b"again"], 3).result() == sequence + 1
    assert verify(pair.url).sequence == sequence + 1


def test_a_failover_loses_nothing(pair: Pair) -> None:
    """The primary is gone for good under load; the same journal goes on with what was the standby."""
    with Journal.open_url(pair.url) as journal, Load(journal, "failover") as load:
        load.more(100)
        pair.primary.crash()
        pair.standby.promote()
        load.more(100)
        assert journal.failure is None
    assert_nothing_lost(pair.url, load)
    assert verify(pair.url).sequence >= max(load.acknowledged)
