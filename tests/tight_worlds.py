"""Worlds where CPU and memory bind beside GPUs, and worlds that ask for a part of a GPU among shared cards.

Each is a world of `tests.worlds` with something added, so that every other constraint is as active as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.worlds import World, chance, world_from_seed

Row = dict[str, Any]
PARTS_MILLI = (1, 160, 250, 333, 500, 810, 999)


def tight_world_from_seed(seed: int) -> World:
    """A world whose request names CPU, memory or both; some nodes are not limited, some have none to spare."""
    random, world = Random(f"tight {seed}"), world_from_seed(seed)
    needs = [name for name in ("cpu_milli", "memory_mib") if chance(random, 75)] or ["cpu_milli"]
    request = world.request | {name: random.choice((1, 1_000, 1_500, 7_000)) for name in needs}
    return replace(world, request=request, fleet=[_tightened(random, node, request) for node in world.fleet])


def _tightened(random: Random, node: Row, request: Row) -> Row:
    replicas = node["gpu_count"] // (request.get("gpus_per_node") or 1)
    return node | {
        name: None
        if chance(random, 25)
        else max(0, need * random.randint(0, replicas + 1) + random.choice((-1, 0, 0)))
        for name, need in (
            ("cpu_milli", request.get("cpu_milli") or 1),
            ("memory_mib", request.get("memory_mib") or 1),
        )
    }


@dataclass(frozen=True)
class PartWorld:
    """A world whose request is for a part of a GPU. `cards`: node id → thousandths left on each shared card.

    A shared card takes one of the node's `gpu_free`.
    """

    world: World
    cards: Mapping[str, tuple[int, ...]]


def part_world_from_seed(seed: int) -> PartWorld:
    """Small fleets with many equally cheap places, so that the rule of ties decides often."""
    random, world = Random(f"part {seed}"), tight_world_from_seed(seed)
    request = {
        name: value for name, value in world.request.items() if name not in ("gpus_per_node", "max_supplier_share")
    }
    request |= {"gpu_count": 1, "gpu_milli": random.choice(PARTS_MILLI)}
    if chance(random, 50):
        request = {name: value for name, value in request.items() if name not in ("cpu_milli", "memory_mib")}
    cards = {
        node["node_id"]: tuple(random.choice((0, 1, 159, 160, 250, 500, 810, 999)) for _ in range(shared))
        for node in world.fleet
        if (shared := random.randint(0, min(2, node["gpu_free"])))
    }
    return PartWorld(replace(world, request=request), cards)
