"""Idempotency keys are kept for at least 24 hours, and as long as the lease that they made (law 4)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.events import Key
from engine.market.state import KEPT_US
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from engine.service.snapshot_keeper import SnapshotKeeper
from tests.service.loopback import Book, Clock, node
from tests.service.sequences import load_command

DAY_S = KEPT_US / 1_000_000
LEASE_S = 10 * 24 * 3_600
KEY = Key("alice", "DeployCluster", "k", b"body")
DEPLOY = commands.DeployCluster("alice", ClusterRequest(gpu_count=2, duration_s=LEASE_S), KEY)


class Market:
    """An engine whose clock moves when told; it is restarted after every step, from a snapshot or without."""

    def __init__(self, data_dir: Path, *, snapshots: bool) -> None:
        self.clock, self._data_dir, self._snapshots = Clock(), data_dir, snapshots
        self.engine = Engine(data_dir, Book(), self.clock)

    def submit(self, command: commands.Command) -> list[Any]:
        events, receipt = self.engine.submit(command, NO_STOPWATCH)
        receipt.result()
        return events

    def wait_s(self, seconds: float) -> None:
        self.clock.advance_s(seconds)
        self.submit(load_command([node("other")], []))  # time passes for a market with its events
        if self._snapshots:
            asyncio.run(SnapshotKeeper(self.engine, 1).take())
        self.engine.close()
        self.engine = Engine(self._data_dir, Book(), self.clock)


@pytest.fixture(params=[False, True], ids=["replayed", "from a snapshot"])
def market(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Market(tmp_path, snapshots=request.param)
    made.submit(load_command([node("n1")], []))
    yield made
    made.engine.close()


def test_a_key_lives_as_long_as_its_lease_and_a_day(market: Market) -> None:
    (started,) = market.submit(DEPLOY)
    for waits_s in (DAY_S + 1, LEASE_S - DAY_S - 2, 2, DAY_S - 1):
        market.wait_s(waits_s)
        assert market.submit(DEPLOY) == [], "the first call's answer, no second lease"
        assert market.engine.state.subjects["alice", "DeployCluster", "k"][1] == started.lease_id
    market.wait_s(DAY_S)
    assert len(market.submit(DEPLOY)) == 1, "and no longer than it must"


def command_with_key(kind: str) -> commands.Command:
    key = Key("alice", kind, "k", b"body")
    made: dict[str, commands.Command] = {
        "QuoteCluster": commands.IssueQuote("alice", ClusterRequest(gpu_count=1), 60, key, None),
        "LoadFleet": load_command([node("n2")], [], key),
        "SetNodeState": commands.SetNodeState("n1", NodeState.READY, key),
    }
    return made[kind]


@pytest.mark.parametrize("kind", ["QuoteCluster", "LoadFleet", "SetNodeState"])
def test_a_key_of_anything_else_lives_for_a_day(market: Market, kind: str) -> None:
    command = command_with_key(kind)
    market.submit(command)
    market.wait_s(DAY_S - 1)
    assert market.submit(command) == []
    market.wait_s(DAY_S)
    assert ("alice", kind, "k") not in market.engine.state.subjects


def test_a_release_is_known_by_its_key_as_long_as_its_lease(market: Market) -> None:
    (started,) = market.submit(DEPLOY)
    market.wait_s(60)
    release = commands.ReleaseLease("alice", started.lease_id, Key("alice", "ReleaseLease", "k", b"body"))
    assert len(market.submit(release)) == 1
    market.wait_s(DAY_S - 1)
    assert market.submit(release) == []
