"""Refusals of plans over gRPC: what is merely leased by others is told from what no fleet of these nodes holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.planning.queue_plan import OUR_SOLVER
from engine.planning.refusal_text import LEASED
from tests.service.loopback import node
from tests.service.planners import Planner, PlanningLoopback, placed, wanted

NOWHERE = (
    "no placement of {} on what this plan may give keeps all of its constraints, even if nothing else were placed"
)


@pytest.fixture
def planner(tmp_path: Path) -> Iterator[Planner]:
    """One node with one GPU and two cores, one node that drains; the planner is ours."""
    loopback = PlanningLoopback(tmp_path / "engine", OUR_SOLVER)
    loopback.client.load([node("n0", gpu_count=1, cpu_milli=2_000), node("n1", state="DRAINING")])
    try:
        yield Planner(loopback.client)
    finally:
        loopback.close()


def refusals(planner: Planner, *queue: object) -> dict[str, tuple[str, str]]:
    plan = planner.get(planner.plan(*queue, work_limit=3))
    return {each.request_id: (each.reason, each.detail) for each in plan.refusals}


def test_what_others_lease_is_told_from_what_is_nowhere(planner: Planner) -> None:
    """Law: the sentence speaks of what the plan may give, and says that it would fit if and only if it would."""
    other = planner.client.as_tenant("someone")
    lease = other.deploy(gpu_count=1)
    nowhere = "NO_FEASIBLE_PLACEMENT"
    assert refusals(planner, wanted("one", 1), wanted("two", 2)) == {
        "one": (nowhere, NOWHERE.format("1 GPU") + LEASED),
        "two": (nowhere, NOWHERE.format("2 GPUs")),
    }
    other.release(lease.name)
    plan = planner.get(planner.plan(wanted("one", 1), work_limit=3))
    assert placed(plan.placements) == {"one": {"n0": 1}}


def test_what_others_lease_of_cards_and_cpu_is_told_too(planner: Planner) -> None:
    """Law: the same of parts and of CPU: what a node has, whoever uses it now, and no more."""
    planner.client.as_tenant("someone").deploy(gpu_count=1, gpu_milli=600, cpu_milli=1_500)
    queue = [
        wanted("part", 1, gpu_milli=500),
        wanted("cores", 1, gpu_milli=100, cpu_milli=1_000),
        wanted("many", 1, cpu_milli=3_000),
    ]
    told = refusals(planner, *queue)
    assert {name: detail.endswith(LEASED) for name, (_, detail) in told.items()} == {
        "part": True,
        "cores": True,
        "many": False,
    }
    assert {reason for reason, _ in told.values()} == {"NO_FEASIBLE_PLACEMENT"}


def test_a_held_quote_is_told_like_a_lease(planner: Planner) -> None:
    """Law: what a quote holds is not the plan's to give either."""
    planner.client.as_tenant("someone").quote(gpu_count=1, hold=True)
    reason, detail = refusals(planner, wanted("one", 1))["one"]
    assert (reason, detail) == ("NO_FEASIBLE_PLACEMENT", NOWHERE.format("1 GPU") + LEASED)
