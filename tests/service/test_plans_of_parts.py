"""Parts of GPUs, CPU and memory in plans over gRPC: planned, applied, moved, and refused where they are gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.planning.queue_plan import OUR_SOLVER
from tests.service.loopback import Client, node
from tests.service.planners import Planner, PlanningLoopback, assert_replays, outcomes, placed, wanted

ASK = 2_000_000


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[PlanningLoopback]:
    """An engine of the test's own with our planner."""
    loopback = PlanningLoopback(tmp_path / "engine", OUR_SOLVER)
    try:
        yield loopback
    finally:
        loopback.close()


@pytest.fixture
def planner(loopback: PlanningLoopback) -> Planner:
    return Planner(loopback.client)


def part(name: str, milli: int, **fields: Any) -> Any:
    return wanted(name, 1, gpu_milli=milli, **fields)


def shared(client: Client, name: str) -> list[tuple[int, int]]:
    return [(card.card, card.gpu_milli_free) for card in client.node(f"nodes/{name}").shared_cards]


def test_a_queue_of_parts_becomes_leases_on_one_card(loopback: PlanningLoopback, planner: Planner) -> None:
    """Laws 1 to 3 and 7: parts fill a card, pay their shares, and CPU is set aside; a replay gives the same."""
    loopback.client.load([node("n0", gpu_count=2, cpu_milli=9_000, ask_micro_usd_per_gpu_hour=ASK)])
    queue = (part("a", 500, cpu_milli=4_000), part("b", 333), part("c", 167), wanted("d", 1, cpu_milli=5_000))
    name = planner.plan(*queue, part("e", 900, cpu_milli=1), work_limit=3)
    plan = planner.get(name)
    assert placed(plan.placements) == {each: {"n0": 1} for each in "abcd"}
    assert [each.request_id for each in plan.refusals] == ["e"]
    due = {row.request_id: row.price_micro_usd_per_gpu_hour for row in plan.placements}
    assert [due[each] for each in "abc"] == [-(-due["d"] * milli // 1_000) for milli in (500, 333, 167)]
    applied = planner.apply(name)
    assert (applied.leases_started, applied.changes_refused) == (4, 0)
    seen = loopback.client.node("nodes/n0")
    assert (seen.gpu_free, seen.cpu_milli_free, shared(loopback.client, "n0")) == (0, 0, [(0, 0)])
    leases = {each.request_id: loopback.client.lease(f"leases/{each.lease_id}") for each in applied.outcomes}
    assert {each: leases[each].price.rate_micro_usd_per_hour for each in "abcd"} == due
    assert all(leases[each].placement.card == 0 for each in "abc")
    assert not leases["d"].placement.HasField("card")
    assert_replays(loopback)


def test_parts_join_the_cards_of_others(loopback: PlanningLoopback, planner: Planner) -> None:
    """What others left of a card is planned with, and what they took of CPU is not."""
    client = loopback.client
    client.load([node("n0", gpu_count=1, cpu_milli=5_000, ask_micro_usd_per_gpu_hour=ASK)])
    client.deploy(gpu_count=1, gpu_milli=600, cpu_milli=4_000)
    name = planner.plan(part("a", 400, cpu_milli=1_000), part("b", 401), wanted("c", 1), work_limit=3)
    assert placed(planner.get(name).placements) == {"a": {"n0": 1}}
    assert outcomes(planner.apply(name)) == {"a": ("START", "")}
    assert shared(client, "n0") == [(0, 0)]


def test_a_card_that_is_gone_is_reported_never_forced(loopback: PlanningLoopback, planner: Planner) -> None:
    """Law 2: between planning and applying somebody else took the rest of the card, and CPU."""
    client = loopback.client
    client.load([node("n0", gpu_count=1, cpu_milli=5_000, ask_micro_usd_per_gpu_hour=ASK)])
    name = planner.plan(part("a", 400), part("b", 300, cpu_milli=3_000), part("c", 300), work_limit=3)
    client.deploy(gpu_count=1, gpu_milli=500, cpu_milli=4_000)
    gone = "START", "CAPACITY_GONE"
    assert outcomes(planner.apply(name)) == {"a": ("START", ""), "b": gone, "c": gone}
    assert_replays(loopback)


def test_running_parts_move_off_a_draining_node(loopback: PlanningLoopback, planner: Planner) -> None:
    """A part, and a lease with CPU, go to another node with all that they use, at the price they pay."""
    client = loopback.client
    client.load(
        [node(f"n{i}", gpu_count=2, cpu_milli=4_000, ask_micro_usd_per_gpu_hour=ASK + i) for i in range(2)]
    )
    leases = [client.deploy(gpu_count=1, gpu_milli=700), client.deploy(gpu_count=1, cpu_milli=3_000)]
    assert {lease.placement.node_ids[0] for lease in leases} == {"n0"}
    client.set_state("nodes/n0", "DRAINING")
    options = {"movable_leases": True, "displaced_bonus_micro_usd": 90_000_000, "work_limit": 3}
    name = planner.plan(part("new", 300, cpu_milli=1_000), **options)
    applied = planner.apply(name)
    assert (applied.leases_moved, applied.leases_started, applied.changes_refused) == (2, 1, 0)
    for lease in leases:
        moved = client.lease(lease.name)
        assert list(moved.placement.node_ids) == ["n1"]
        assert moved.price.rate_micro_usd_per_hour == lease.price.rate_micro_usd_per_hour
    seen = client.node("nodes/n1")
    assert (seen.gpu_free, seen.cpu_milli_free, shared(client, "n1")) == (0, 0, [(0, 0)])
    assert client.node("nodes/n0").gpu_leased == 0 and not shared(client, "n0")
    assert_replays(loopback)


def test_a_limit_between_sites_keeps_no_part_from_a_shared_card(
    loopback: PlanningLoopback, planner: Planner
) -> None:
    """Law: one node keeps every limit on round trips, also where only what others left of a card is free."""
    client = loopback.client
    client.load([node("n0", gpu_count=1, ask_micro_usd_per_gpu_hour=ASK)])
    client.deploy(gpu_count=1, gpu_milli=500)
    queue = [part(f"r{number:02}", 10, max_cluster_rtt_ms=1.0) for number in range(50)]
    plan = planner.get(planner.plan(*queue, work_limit=3))
    assert placed(plan.placements) == {request.request_id: {"n0": 1} for request in queue}
    client.deploy(gpu_count=1, gpu_milli=10, max_cluster_rtt_ms=1.0)
    assert shared(client, "n0") == [(0, 490)]
