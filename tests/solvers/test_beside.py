"""CPU, memory and parts of GPUs: the engine's placement against the independent twins, and planted bugs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from engine.market.demand import demand_of
from engine.market.inventory import Inventory
from engine.market.use import Use
from solvers import cards
from solvers.placement import Demand, NoPlacement, Placement
from solvers.spare import Cards
from tests.full_size import size
from tests.part_oracle import best_seat
from tests.solvers.bridge import inventory_of, request_of
from tests.solvers.laws import Asked
from tests.tight_worlds import PartWorld, part_world_from_seed, tight_world_from_seed
from tests.worlds import MODELS, world_from_seed

PLANTED_SEEDS = range(300)


@pytest.mark.exact
def test_cost_and_feasibility_equal_the_twins_with_cpu_and_memory() -> None:
    """Law: with CPU and memory named, cost is exact and at most one idle node more than necessary is broken."""
    served = 0
    for seed in range(size(90, 400)):
        asked = Asked(tight_world_from_seed(seed))
        ours = asked.place()
        assert asked.faults(ours) == [], f"tight_world_from_seed({seed})"
        served += ours is not None
    assert served > size(15, 80)


def test_needs_that_nothing_limits_change_no_placement() -> None:
    """Law: naming CPU on a fleet without limits gives the placement of the same request without it."""
    for seed in range(size(60, 200)):
        asked = Asked(world_from_seed(seed))
        plain, named = asked.place(), asked.place(replace(asked.demand, cpu_milli=5, memory_mib=7))
        assert (plain is None) == (named is None), f"world_from_seed({seed})"
        if plain is not None and named is not None:
            assert (plain.nodes == named.nodes).all() and (plain.gpus == named.gpus).all()
            assert (plain.rate, plain.idle_broken) == (named.rate, named.idle_broken)


def shared(parts: PartWorld) -> Inventory:
    """The world's inventory with its cards shared as the world says."""
    inventory = inventory_of(parts.world)
    for node_id, lefts in parts.cards.items():
        node = np.array([inventory.number[node_id]])
        for card, left in enumerate(lefts):
            inventory.take(Use(node, np.ones(1, dtype=np.int64), gpu_milli=1_000 - left, card=card))
    return inventory


def part_faults(parts: PartWorld, inventory: Inventory, found: Placement | NoPlacement) -> list[str]:
    """What is wrong with the place of a part, judged by the twin and by the world's own rows."""
    best, request = best_seat(parts), parts.world.request
    cap, milli = request.get("max_price_micro_usd_per_gpu_hour"), request["gpu_milli"]
    if isinstance(found, Placement) and cap is not None:
        found = NoPlacement(True, 1) if found.rate > cap else found
    if isinstance(found, NoPlacement) or best is None:
        return [] if isinstance(found, NoPlacement) == (best is None) else [f"ours {found}, twin {best}"]
    node_id = inventory.node_ids[found.nodes[0]]
    node = next(row for row in parts.world.fleet if row["node_id"] == node_id)
    lefts = parts.cards.get(node_id, ())
    faults = [] if found.card < node["gpu_count"] else ["a card that is not there"]
    left = lefts[found.card] if 0 <= found.card < len(lefts) else None
    if left is not None and left < milli:
        faults.append("more than is left of a card")
    if left is None and node["gpu_free"] - len(lefts) < 1:
        faults.append("a whole card where there is none")
    if (found.rate, (1, 0) if left is None else (0, left)) != best:
        faults.append(f"ours {found.rate} on a card with {left} left, twin {best}")
    for field in ("cpu_milli", "memory_mib"):
        if request.get(field) is not None and node.get(field) is not None and request[field] > node[field]:
            faults.append(f"no {field}")
    return faults


def part_demand(parts: PartWorld, inventory: Inventory) -> Demand:
    return demand_of(inventory, request_of(parts.world.request), frozenset(MODELS))


@pytest.mark.exact
def test_parts_go_where_the_twin_puts_them() -> None:
    """Law: a part gets the least price there is, then a shared card, then the one that it fits best."""
    on_shared = on_whole = 0
    for seed in range(size(150, 1_000)):
        parts = part_world_from_seed(seed)
        inventory = shared(parts)
        found = inventory.placer.place(part_demand(parts, inventory))
        assert part_faults(parts, inventory, found) == [], f"part_world_from_seed({seed})"
        if isinstance(found, Placement):
            is_shared = found.card < len(parts.cards.get(inventory.node_ids[found.nodes[0]], ()))
            on_shared, on_whole = on_shared + is_shared, on_whole + (not is_shared)
    assert min(on_shared, on_whole) > size(15, 100)


def forget_the_cpu(parts: PartWorld, inventory: Inventory) -> Placement | NoPlacement:
    return inventory.placer.place(replace(part_demand(parts, inventory), cpu_milli=0, memory_mib=0))


def take_the_emptiest_card(parts: PartWorld, inventory: Inventory) -> Placement | NoPlacement:
    found = inventory.placer.place(part_demand(parts, inventory))
    if isinstance(found, NoPlacement):
        return found
    lefts = dict(enumerate(parts.cards.get(inventory.node_ids[found.nodes[0]], ())))
    return replace(found, card=max(lefts, key=lambda card: lefts[card], default=found.card))


def always_break_a_card(parts: PartWorld, inventory: Inventory) -> Placement | NoPlacement:
    inventory.spare.cards = Cards(inventory.node_ids.size, 8)
    return inventory.placer.place(part_demand(parts, inventory))


@pytest.mark.parametrize("bug", [forget_the_cpu, take_the_emptiest_card, always_break_a_card])
def test_planted_bugs_of_parts_are_caught(bug: Callable[[PartWorld, Inventory], Placement | NoPlacement]) -> None:
    """The law can fail: each planted bug breaks it in some world."""
    for seed in PLANTED_SEEDS:
        parts = part_world_from_seed(seed)
        inventory = shared(parts)
        found = bug(parts, inventory)
        if part_faults(parts, shared(parts), found):
            return
    pytest.fail(f"{bug.__name__} was not caught in {len(PLANTED_SEEDS)} worlds")


def forget_the_cpu_in_the_walk(asked: Asked) -> Placement | None:
    return asked.place(replace(asked.demand, cpu_milli=0))


def test_a_walk_that_forgets_cpu_is_caught() -> None:
    """The law can fail: without CPU in the walk some node takes more replicas than it can feed."""
    for seed in PLANTED_SEEDS:
        asked = Asked(tight_world_from_seed(seed))
        if asked.faults(forget_the_cpu_in_the_walk(asked)):
            return
    pytest.fail("was not caught")


def test_no_card_is_as_the_kernels_say() -> None:
    """A placement of whole GPUs names no card."""
    found = Asked(world_from_seed(1)).place()
    assert found is None or found.card == cards.NO_CARD
