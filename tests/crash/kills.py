"""Many random `kill -9` of a real server under load, each followed by all the questions (laws 1, 2 and 4).

usage: python -m tests.crash.kills [KILLS] [SEED]; half of them on SQLite, half on PostgreSQL
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from engine.journal import Place
from engine.journal.places import database_at
from engine.journal.reader import replay
from engine.service.restoring import newest_snapshot
from engine.service.verify import verify_journal
from tests.crash.nursery import Nursery, kill, nursery
from tests.postgres import cluster
from tests.service.loopback import Client, node
from tests.service.test_kill import (
    CLIENTS,
    GPUS_PER_NODE,
    NODES,
    Diary,
    Killer,
    assert_no_gpu_is_leased_twice,
    assert_nothing_was_lost,
    call_until_the_end,
    connect,
)

KILLS_A_JOURNAL = 25
ANSWERS_MAX = 80
SNAPSHOT_EVENTS = 40
LEASE_S = 0.5
WAIT_S = 60.0


@dataclass
class Tally:
    """What was done and seen."""

    kills: int = 0
    acknowledged: int = 0
    unheard: int = 0
    events: int = 0
    snapshots: int = 0
    replayed_after_snapshot: int = 0
    waits_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        waited = f"ready again after at most {max(self.waits_s):.2f} s" if self.waits_s else ""
        return (
            f"{self.kills} kills, {self.acknowledged} calls acknowledged, {self.unheard} of unknown outcome, "
            f"{self.events} events, {self.snapshots} snapshots compared, {waited}: nothing lost"
        )


class Life:
    """One journal and what its clients were told, over several servers."""

    def __init__(self, nursery: Nursery, place: Place, log: Path, draw: random.Random, tally: Tally) -> None:
        self._nursery, self._place, self._log, self._draw, self._tally = nursery, place, log, draw, tally
        self._diaries = {f"t{number}": Diary() for number in range(CLIENTS)}
        where = {"data_dir": str(place)} if isinstance(place, Path) else {"database_url": place}
        self._options = {**where, "snapshot_events": SNAPSHOT_EVENTS, "leader_lease_s": LEASE_S}
        self._round = 0

    def run(self, kills: int) -> None:
        """So many kills; the fleet is loaded before the first."""
        self._serve(answers=None, load=True)
        for _ in range(kills):
            self._serve(answers=self._draw.randint(1, ANSWERS_MAX), load=False)
            self._tally.kills += 1
            self._check_journal()
        self._serve(answers=None, load=False)

    def _serve(self, *, answers: int | None, load: bool) -> None:
        """One server: ask everything, then load it and kill it after so many answers; None: kill it idle."""
        self._round += 1
        pid, target = self._nursery.start(self._log, **self._options)
        clients = {tenant: connect(target, tenant) for tenant in self._diaries}
        try:
            since_s = time.monotonic()
            nodes = [node(f"n{i:02d}", gpu_count=GPUS_PER_NODE) for i in range(NODES if load else 1)]
            patiently(lambda: clients["t0"].load(nodes, key="load" if load else ""))
            self._tally.waits_s.append(time.monotonic() - since_s)
            patiently(lambda: self._ask_everything(clients))
            if answers is not None:
                self._call_and_kill(pid, clients, answers)
        finally:
            kill(pid)
            for client in clients.values():
                client.channel.close()

    def _ask_everything(self, clients: dict[str, Client]) -> None:
        held: Counter[str] = Counter()
        for tenant, diary in self._diaries.items():
            held += assert_nothing_was_lost(clients[tenant], diary)
        assert_no_gpu_is_leased_twice(clients["t0"], held)

    def _call_and_kill(self, pid: int, clients: dict[str, Client], answers: int) -> None:
        killer = Killer(pid, answers)
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [
                pool.submit(call_until_the_end, clients[tenant], diary, f"{self._round}-{tenant}", killer)
                for tenant, diary in self._diaries.items()
            ]
            for each in running:
                each.result()
        self._tally.acknowledged += answers
        self._tally.unheard += sum(
            len(diary.unheard_deploys) + len(diary.unheard_releases) for diary in self._diaries.values()
        )

    def _check_journal(self) -> None:
        """Chain, state and snapshots hold, and the state is the same with and without a snapshot."""
        report, database = verify_journal(self._place), database_at(self._place)
        restored = newest_snapshot(database)
        self._tally.snapshots += report.snapshots
        restored.take_in(replay(database, restored.sequence))
        assert restored.state.hash() == report.state_hash
        self._tally.events += report.events


def patiently(ask: Callable[[], object]) -> None:
    """Ask again while the engine is none that leads: its predecessor's lease runs out first, and on a busy machine
    it may be late to renew its own."""
    ends_s = time.monotonic() + WAIT_S
    while True:
        try:
            ask()
            return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > ends_s:
                raise
            time.sleep(0.02)


def run(kills: int, seed: int, nursery: Nursery, new_place: Callable[[], Place], log: Path) -> Tally:
    """So many kills, a new journal after each KILLS_A_JOURNAL."""
    draw, tally = random.Random(seed), Tally()
    while tally.kills < kills:
        Life(nursery, new_place(), log, draw, tally).run(min(KILLS_A_JOURNAL, kills - tally.kills))
        print(f"  {tally.kills} of {kills}", file=sys.stderr, flush=True)
    return tally


def main() -> None:
    kills, seed = (int(given) for given in (*sys.argv[1:], 500, 1)[:2])
    with tempfile.TemporaryDirectory() as name, nursery() as servers, cluster() as postgres:
        place = Path(name)
        directories = (place / f"data-{number}" for number in range(kills))
        for kind, new_place in (("SQLite", lambda: next(directories)), ("PostgreSQL", postgres.new_url)):
            started_s = time.monotonic()
            tally = run(-(-kills // 2), seed, servers, new_place, place / "log")
            print(f"{kind}, seed {seed}: {tally} ({time.monotonic() - started_s:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
