"""The joint twins against enumeration, against each other and against arithmetic done by hand."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

from tests.checker import violations
from tests.planning.joint_oracle import Standing, capacities, dual_of, optimum_of, welfare_of
from tests.planning.joint_worlds import JointWorld, Row, joint_world_from_seed, joint_worlds
from tests.test_oracles import node


@pytest.mark.parametrize("seed", range(60))
def test_nothing_that_enumeration_finds_is_better(seed: int) -> None:
    world = joint_world_from_seed(seed, max_nodes=3, max_requests=3)
    assert optimum_of(world).welfare_micro_usd_per_hour == best_by_enumeration(world)


@settings(max_examples=40)
@given(joint_worlds())
def test_the_optimum_keeps_every_rule_and_no_price_proves_less(world: JointWorld) -> None:
    found, room = optimum_of(world), Counter(capacities(world))
    for request in world.requests:
        placed = found.placement.get(request["request_id"], {})
        assert not placed or is_feasible(world, request, placed)
        room.subtract(beyond_pinned(world, request, placed))
    assert min(room.values()) >= 0
    random = Random(len(world.requests))
    price = {n["node_id"]: random.choice((0, 1, 2)) * n["ask_micro_usd_per_gpu_hour"] for n in world.fleet}
    assert dual_of(world, price) >= found.welfare_micro_usd_per_hour


def best_by_enumeration(world: JointWorld) -> int | None:
    """Every combination of feasible placements that fits together; None = not even what must stay does."""
    choices = [list(answers(world, request)) for request in world.requests]
    worth = [
        [welfare_of(world, {request["request_id"]: placed}) for placed in options]
        for request, options in zip(world.requests, choices, strict=True)
    ]
    needs = [
        [beyond_pinned(world, request, placed) for placed in options]
        for request, options in zip(world.requests, choices, strict=True)
    ]

    def best(number: int, room: Counter[str]) -> int | None:
        if number == len(choices):
            return 0
        found = []
        for value, need in zip(worth[number], needs[number], strict=True):
            left = Counter(room)
            left.subtract(need)
            rest = best(number + 1, left) if min(left.values()) >= 0 else None
            found += [value + rest] if rest is not None else []
        return max(found, default=None)

    return best(0, Counter(capacities(world)))


def answers(world: JointWorld, request: Row) -> Iterator[dict[str, int]]:
    """Nothing, if that is allowed, and every feasible placement."""
    if not Standing(world, request).must_serve:
        yield {}
    size, count = request.get("gpus_per_node") or 1, request["gpu_count"]
    room = [range(0, min(count, gpus) + 1, size) for gpus in rooms(world, request).values()]
    for gpus in itertools.product(*room):
        if sum(gpus) == count:
            placed = {n["node_id"]: g for n, g in zip(world.fleet, gpus, strict=True) if g}
            if is_feasible(world, request, placed):
                yield placed


def rooms(world: JointWorld, request: Row) -> dict[str, int]:
    pinned = Standing(world, request).pinned
    return {node_id: gpus + pinned.get(node_id, 0) for node_id, gpus in capacities(world).items()}


def is_feasible(world: JointWorld, request: Row, placed: dict[str, int]) -> bool:
    room = rooms(world, request)
    fleet = [node | {"gpu_free": room[node["node_id"]]} for node in world.fleet]
    asked = {name: value for name, value in request.items() if name != "max_price_micro_usd_per_gpu_hour"}
    kept = all(placed.get(n, 0) >= gpus for n, gpus in Standing(world, request).pinned.items())
    return kept and not violations(fleet, world.rtt, {}, asked, placed)


def beyond_pinned(world: JointWorld, request: Row, placed: dict[str, int]) -> Counter[str]:
    pinned = Standing(world, request).pinned
    return Counter({node_id: gpus - pinned.get(node_id, 0) for node_id, gpus in placed.items()})


# ------------------------------------------------------------------------------------------------ by hand


def asked(request_id: str, gpu_count: int, price: int, **other: Any) -> Row:
    cap = {"max_price_micro_usd_per_gpu_hour": price, "duration_s": 3600, "interruptible": False}
    return {"request_id": request_id, "gpu_count": gpu_count, **cap, **other}


def runs(request_id: str, node_id: str, gpus: int, movable: bool = True) -> Row:
    return {"request_id": request_id, "node_id": node_id, "gpus": gpus, "movable": movable}


@pytest.mark.parametrize(("move_cost", "moved"), [(4, True), (6, False)])
def test_work_moves_if_the_saving_pays_for_it(move_cost: int, moved: bool) -> None:
    world = JointWorld(
        [node("dear", 10, free=0), node("cheap", 5)], [], [asked("r", 8, 20)], [runs("r", "dear", 8)], move_cost, 0
    )
    found = optimum_of(world)
    assert found.placement == {"r": {"cheap" if moved else "dear": 8}}
    assert found.welfare_micro_usd_per_hour == 8 * (20 - 5 - move_cost if moved else 20 - 10)


@pytest.mark.parametrize(("bonus", "served"), [(3, "new"), (6, "old")])
def test_displaced_work_competes_with_its_bonus(bonus: int, served: str) -> None:
    fleet = [node("gone", 1, free=0, state="DOWN"), node("left", 1)]
    world = JointWorld(
        fleet, [], [asked("old", 8, 10), asked("new", 8, 15)], [runs("old", "gone", 8, False)], 0, bonus
    )
    assert set(optimum_of(world).placement) == {served}


def test_pinned_work_stays_at_a_loss_and_takes_no_capacity() -> None:
    world = JointWorld(
        [node("n", 10, free=4)],
        [],
        [asked("old", 4, 3), asked("new", 4, 11)],
        [runs("old", "n", 4, movable=False)],
        0,
        0,
    )
    found = optimum_of(world)
    assert found.placement == {"old": {"n": 4}, "new": {"n": 4}}
    assert found.welfare_micro_usd_per_hour == 4 * (3 - 10) + 4 * (11 - 10)
    assert dual_of(world, {"n": 11}) == 4 * (3 - 10) + 4 * (11 - 10)
