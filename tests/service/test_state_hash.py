"""The state's hash sees every fact: what differs in one fact has another hash, what does not has the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.events import Key
from engine.market.ledger.rules import LedgerRules
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from tests.service.loopback import Book, Clock, Row, node
from tests.service.sequences import load_command

RTT = {"site_a": "iad1", "site_b": "sfo1", "rtt_ms": 60.0}
OTHER: dict[str, Any] = {
    "node_id": "n3",
    "supplier_id": "bolt",
    "gpu_model": "A100",
    "gpu_count": 9,
    "gpu_free": 7,
    "site_id": "dub1",
    "region": "eu-west",
    "country": "CA",
    "latitude": 37.770001,
    "longitude": -122.420001,
    "security_tier": "VERIFIED",
    "certifications": ["SOC2", "TEE"],
    "connectivity_tier": "ULTRA",
    "reliability": 0.9900000000000001,
    "ask_micro_usd_per_gpu_hour": 2_000_001,
    "interconnect": "INFINIBAND",
    "fabric_id": "f",
    "state": "DRAINING",
    "cpu_milli": 64_000,
    "memory_mib": 0,
}
"""Another value of each column, legal beside the others of a node that is alone at its site."""
OTHER_RTT = {"site_a": "fra1", "site_b": "fra1", "rtt_ms": 60.00000000000001}


def hash_after(data_dir: Path, *steps: commands.Command, wait_s: float = 0.0) -> str:
    """The hash of a new engine's state after some commands."""
    clock = Clock()
    engine = Engine(data_dir, Book(), clock)
    try:
        for step in steps:
            engine.submit(step, NO_STOPWATCH)
            clock.advance_s(wait_s)
        return engine.state.hash()
    finally:
        engine.close()


def fleet(**changes: Any) -> list[Row]:
    """Two nodes, of which the second, alone at its site, may differ."""
    return [node("n1"), {**node("n2", site_id="sfo1"), **changes}]


def test_every_column_has_another_value() -> None:
    """The list of changed cells is complete."""
    assert OTHER.keys() == FLEET_SCHEMA.keys()
    assert OTHER_RTT.keys() == RTT_SCHEMA.keys()


def test_every_cell_of_a_load(tmp_path: Path) -> None:
    """Law 10: two loads that differ in one cell, each column in turn, give different hashes, all of them."""
    hashes = {"nothing": hash_after(tmp_path / "a", load_command(fleet(), [RTT]))}
    assert hash_after(tmp_path / "b", load_command(fleet(), [RTT])) == hashes["nothing"]
    for column, value in OTHER.items():
        hashes[column] = hash_after(tmp_path / column, load_command(fleet(**{column: value}), [RTT]))
    for column, value in OTHER_RTT.items():
        hashes[column] = hash_after(tmp_path / column, load_command(fleet(), [{**RTT, column: value}]))
    assert len(set(hashes.values())) == len(hashes) == 1 + len(FLEET_SCHEMA) + len(RTT_SCHEMA)


@pytest.mark.parametrize("column", ["certifications", "fabric_id"])
def test_nothing_is_not_something(tmp_path: Path, column: str) -> None:
    """Law 10: a value and its absence have different hashes, wherever the value stood."""
    empty = {"certifications": [], "fabric_id": None}[column]
    hashes = [
        hash_after(tmp_path / f"{i}", load_command([node("n1", **{column: a}), node("n2", **{column: b})], []))
        for i, (a, b) in enumerate(((OTHER[column], empty), (empty, OTHER[column]), (empty, empty)))
    ]
    assert len(set(hashes)) == 3


def test_the_order_of_rows_is_no_fact(tmp_path: Path) -> None:
    """Law 10: a load is a set of rows."""
    rows = [node(f"n{i}", ask_micro_usd_per_gpu_hour=1_000_000 + i) for i in range(5)]
    rtts = [RTT, {"site_a": "fra1", "site_b": "iad1", "rtt_ms": 90.0}]
    straight = hash_after(tmp_path / "a", load_command(rows, rtts))
    assert hash_after(tmp_path / "b", load_command(rows[::-1], rtts[::-1])) == straight


def deploy(tenant: str = "alice", key: Key | None = None, **wanted: Any) -> commands.Command:
    return commands.DeployCluster(tenant, ClusterRequest(**{"gpu_count": 1, "request_id": "r", **wanted}), key)


def quote(tenant: str = "alice", ttl_s: int = 60, **wanted: Any) -> commands.Command:
    return commands.IssueQuote(tenant, ClusterRequest(**{"gpu_count": 1, "request_id": "r", **wanted}), ttl_s)


VARIANTS: dict[str, list[commands.Command]] = {
    "deploy": [deploy()],
    "tenant": [deploy("bob")],
    "gpu_count": [deploy(gpu_count=2)],
    "request_id": [deploy(request_id="s")],
    "interruptible": [deploy(interruptible=True)],
    "duration": [deploy(duration_s=3_601)],
    "the default duration, said": [deploy(duration_s=3_600)],
    "constraint that changes nothing": [deploy(min_reliability=0.1)],
    "key": [deploy(key=Key("alice", "DeployCluster", "k", b"body"))],
    "another key": [deploy(key=Key("alice", "DeployCluster", "j", b"body"))],
    "another body": [deploy(key=Key("alice", "DeployCluster", "k", b"bodz"))],
    "quote": [quote()],
    "quote of another": [quote("bob")],
    "quote with another end": [quote(ttl_s=61)],
    "quote deployed": [quote(), commands.DeployQuote("alice", "q-0000000003")],
    "quote and lease": [quote(), deploy()],
    "released": [deploy(), commands.ReleaseLease("alice", "l-0000000003")],
    "deposit": [commands.DepositFunds("alice", 10**9)],
    "deposit of another": [commands.DepositFunds("bob", 10**9)],
    "deposit of more": [commands.DepositFunds("alice", 10**9 + 1)],
    "deposit and lease": [commands.DepositFunds("alice", 10**9), deploy()],
    "rules": [commands.SetLedgerRules(LedgerRules())],
    "other rules": [commands.SetLedgerRules(LedgerRules(burn_ppm=1))],
    "draining": [commands.SetNodeState("n1", NodeState.DRAINING)],
    "down": [commands.SetNodeState("n1", NodeState.DOWN)],
    "the other down": [commands.SetNodeState("n2", NodeState.DOWN)],
    "ready as before": [commands.SetNodeState("n1", NodeState.READY)],
    "loaded again": [load_command([node("n1")], [])],
}


def test_every_fact_of_the_market(tmp_path: Path) -> None:
    """Law 10: leases, quotes, keys and states that differ in one fact have different hashes."""
    load = load_command(fleet(), [RTT])
    hashes = {name: hash_after(tmp_path / name, load, *steps) for name, steps in VARIANTS.items()}
    same = [(a, b) for a in hashes for b in hashes if a < b and hashes[a] == hashes[b]]
    assert not same
    assert hash_after(tmp_path / "again", load, *VARIANTS["quote deployed"]) == hashes["quote deployed"]


@pytest.mark.parametrize("steps", [[deploy()], [quote()]], ids=["lease", "quote"])
def test_when_it_happened_is_a_fact(tmp_path: Path, steps: list[commands.Command]) -> None:
    """Law 10: the same commands a microsecond later are another state."""
    load = load_command(fleet(), [RTT])

    def run(name: str, wait_s: float) -> str:
        return hash_after(tmp_path / name, load, *steps, wait_s=wait_s)

    assert run("now", 0.0) != run("later", 1e-6)
