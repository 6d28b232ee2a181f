"""RunPlan from an earlier plan: what the solver is told to start from, and whose plans may be named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.service.loopback import node, refused
from tests.service.planners import Greedy, Planner, PlanningLoopback, wanted

ASK = 2_000_000


def fleet(nodes: int = 3) -> list[dict[str, Any]]:
    return [node(f"n{i}", ask_micro_usd_per_gpu_hour=ASK + 100_000 * i) for i in range(nodes)]


@pytest.fixture
def greedy() -> Greedy:
    return Greedy(shadow_micro_usd=2_500_000.0)


@pytest.fixture
def planner(tmp_path: Path, greedy: Greedy) -> Iterator[Planner]:
    """24 H100 at three prices, and a greedy solver that remembers its start."""
    loopback = PlanningLoopback(tmp_path / "engine", greedy.solver())
    loopback.client.load(fleet())
    try:
        yield Planner(loopback.client)
    finally:
        loopback.close()


def started_from(greedy: Greedy) -> list[tuple[int, int, int]]:
    """(request, node, GPUs) of the last start."""
    start = greedy.start
    assert start is not None
    return list(zip(start.request.tolist(), start.node.tolist(), start.gpus.tolist(), strict=True))


def plan_id(planner: Planner, *requests: Any, **options: Any) -> str:
    return str(planner.run(*requests, **options)[-1].plan_id)


def test_what_is_as_it_was_stands_again(greedy: Greedy, planner: Planner) -> None:
    """Law of the start: whole placements of requests that are there again, in the numbers of the new queue."""
    first = plan_id(planner, wanted("a"), wanted("b", 12), wanted("c", 4))
    assert greedy.start is None
    second = plan_id(planner, wanted("new", 2), wanted("c", 4), wanted("b", 12), last_plan_id=first)
    assert started_from(greedy) == [(1, 2, 4), (2, 1, 8), (2, 2, 4)]
    assert greedy.start is not None and (greedy.start.node_price == 2_500_000.0).all()
    assert planner.get(f"plans/{second}").report.parameters.last_plan_id == first


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, {}),
        ({"ask_micro_usd_per_gpu_hour": ASK + 7, "gpu_free": 3}, {}),
        ({"security_tier": "COMMUNITY"}, None),
        ({"gpu_model": "A100"}, None),
        ({}, {"gpu_count": 16}),
        ({}, {"gpus_per_node": 3, "gpu_count": 9}),
    ],
)
def test_what_broke_its_rules_does_not(
    greedy: Greedy, planner: Planner, change: dict[str, Any], again: dict[str, Any] | None
) -> None:
    """Law of the start: constraints hold on the fleet and for the request as they are now, sizes are the same."""
    asked = {"min_security_tier": "SECURITY_TIER_SECURE"}
    first = plan_id(planner, wanted("a", **asked), wanted("b", **asked))
    planner.client.load([{**fleet()[0], **change}])
    plan_id(planner, wanted("a", **{**asked, **(again or {})}), wanted("b", **asked), last_plan_id=first)
    stands = [(1, 1, 8)] if again is None or again else [(0, 0, 8), (1, 1, 8)]
    assert started_from(greedy) == stands


def test_nodes_that_had_no_price(greedy: Greedy, planner: Planner) -> None:
    """Law of the start: a node that is new, or had nothing to sell, says nothing about prices."""
    planner.client.load([{**fleet()[1], "gpu_free": 0}])
    first = plan_id(planner, wanted("a"))
    planner.client.load([fleet()[1], *fleet(4)[3:]])
    plan_id(planner, wanted("a"), last_plan_id=first)
    assert greedy.start is not None
    assert np.isnan(greedy.start.node_price).tolist() == [False, True, False, True]


def test_a_plan_that_is_not_there(planner: Planner) -> None:
    """Law 8: another tenant's plan answers exactly like one that never was."""
    first = plan_id(planner, wanted("a"))
    bob = Planner(planner.client.as_tenant("bob"))
    for who, name in ((planner, "p-1-1"), (bob, first)):
        refusal = refused(who.run, wanted("a"), last_plan_id=name)
        assert refusal.code is grpc.StatusCode.NOT_FOUND
