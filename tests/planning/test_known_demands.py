"""A queue that comes again is not read again: what is kept of it equals what reading it afresh gives."""

from __future__ import annotations

from random import Random
from typing import Any

import polars as pl
import pytest

from engine.domain.errors import InvalidInput
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import SecurityTier
from engine.market.inventory import Inventory
from engine.market.state import MarketState
from engine.planning import known_demands
from engine.planning.known_demands import Names
from engine.planning.snapshot import Queue, Rules, queue_of, take
from engine.service.plan_codec import requests_from
from tests.full_size import size
from tests.planning.test_snapshot import CAP, assert_same, bounded
from tests.service.planners import wanted
from tests.solvers.bridge import inventory_of, request_of
from tests.worlds import MODELS, World, world_from_seed

SEEDS = range(size(40, 200))


def queue_on(inventory: Inventory, requests: list[Any], last: Queue | None = None) -> Queue:
    snapshot = take(MarketState(inventory=inventory), "alice", movable_leases=False)
    return queue_of(snapshot, requests, Rules(), frozenset(MODELS), None if last is None else last.known)


def changed(world: World, random: Random) -> Inventory:
    """The world's fleet after a load: other free GPUs, tiers or asks, now and then a new name, place or RTT."""
    fleet = [
        {
            **node,
            "gpu_free": random.randint(0, node["gpu_count"]),
            "ask_micro_usd_per_gpu_hour": random.randint(1, 9) * 500_000,
            "security_tier": random.choice([tier.name for tier in SecurityTier]),
        }
        for node in random.sample(world.fleet, max(1, len(world.fleet) // 4))
    ]
    kind, first = random.choice(["", "", "supplier_id", "site_id", "certifications", "rtt"]), fleet[0]
    if kind in ("supplier_id", "site_id"):
        first[kind] = "0-new"
    if kind == "certifications":
        first[kind] = ["0-NEW"]
    rtt = [{**pair, "rtt_ms": pair["rtt_ms"] + 25.0} for pair in world.rtt] if kind == "rtt" else []
    return inventory_of(world).merged(
        pl.DataFrame(fleet, schema=FLEET_SCHEMA), pl.DataFrame(rtt, schema=RTT_SCHEMA)
    )


def compare(seed: int) -> bool:
    """Whether what an earlier queue knew was used; the problem is that of a fresh reading."""
    random, world = Random(seed), world_from_seed(seed)
    plain = {"request_id": "b", "gpu_count": 2, "duration_s": 60, "max_price_micro_usd_per_gpu_hour": CAP}
    requests = [request_of(bounded(world, "a")), request_of(plain)]
    first = queue_on(inventory_of(world), requests)
    later = [*requests[random.randint(0, 1) :], request_of({**plain, "request_id": "c", "gpu_count": 4})]
    random.shuffle(later)
    inventory = changed(world, random)
    again, fresh = queue_on(inventory, later, first), queue_on(inventory, later)
    assert_same(again.problem, fresh.problem)
    assert again.gangs == fresh.gangs
    return first.known.names.is_like(again.known.names)


def test_a_queue_on_a_changed_fleet_is_as_if_read_afresh() -> None:
    """Law: whatever changed, the problem equals a fresh one array by array; often enough something was known."""
    used = [compare(seed) for seed in SEEDS]
    assert 0.2 < sum(used) / len(used) < 0.95


def test_forgetting_that_names_changed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: demands of other sites, suppliers or RTTs are taken over, and the comparison fails."""
    monkeypatch.setattr(Names, "is_like", lambda mine, other: True)
    with pytest.raises((AssertionError, ValueError, IndexError)):
        for seed in SEEDS:
            compare(seed)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: what is kept takes no more bytes than allowed; the rest is read again and is the same."""
    world = world_from_seed(1)
    requests = [request_of(bounded(world, f"r{number}")) for number in range(9)]
    one = len(inventory_of(world).sites.names)
    monkeypatch.setattr(known_demands, "KEPT_BYTES_MAX", 4 * one)
    first = queue_on(inventory_of(world), requests)
    assert 0 < len(first.known.of_request) < 9
    assert_same(queue_on(inventory_of(world), requests, first).problem, first.problem)


def test_known_messages_are_not_parsed_again() -> None:
    """Law: a queue gives the same requests with and without the messages of an earlier one; known ones are the
    very objects of then, changed ones are not.
    """
    first = requests_from([wanted(f"r{number}", 1 + number) for number in range(9)], {})
    later = [wanted("r3", 4), wanted("r5", 7), wanted("new"), wanted("r0", 1)]
    again, fresh = requests_from(later, first), requests_from(later, {})
    assert again == fresh and list(again) == list(fresh)
    known = {id(request) for request in first.values()}
    assert [id(request) in known for request in again.values()] == [True, False, False, True]


def test_what_is_wrong_is_told_whatever_is_known() -> None:
    """Law 9: a known message beside wrong ones, or twice in a queue, hides no violation and moves no index."""
    first = requests_from([wanted("a"), wanted("b")], {})
    nameless, endless = wanted("x"), wanted("y")
    nameless.ClearField("request_id")
    endless.ClearField("duration_s")
    later = [wanted("a"), nameless, wanted("b"), endless, wanted("a"), wanted("c", 0)]
    found = []
    for known in (first, {}):
        with pytest.raises(InvalidInput) as refused:
            requests_from(later, known)
        found.append(refused.value.violations)
    assert found[0] == found[1] and len(found[0]) >= 5
