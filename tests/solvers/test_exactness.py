"""One request is placed exactly: the engine's answer equals the independent CP-SAT model's (DESIGN section 2)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from solvers import close_sites
from solvers.placement import NoPlacement, Placement, Search
from tests.checker import violations
from tests.full_size import size
from tests.solvers.bridge import as_rows
from tests.solvers.laws import Asked
from tests.worlds import World, world_from_seed, worlds

WORLDS = int(os.environ.get("WALRAS_EXACT_WORLDS", str(size(40, 250))))
PLANTED_SEEDS = range(400)
CAP = "max_price_micro_usd_per_gpu_hour"


@pytest.mark.exact
@settings(
    max_examples=WORLDS, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(worlds())
def test_cost_and_feasibility_equal_the_twins(world: World) -> None:
    """Law: cost is exact, always; at most one idle node more than necessary is broken; every constraint holds."""
    asked = Asked(world)
    assert asked.faults(asked.place()) == []


@pytest.mark.exact
def test_seeded_worlds_agree_with_the_twin() -> None:
    """The same law on worlds drawn to be near the edge of feasibility more often than Hypothesis draws them."""
    for seed in range(WORLDS):
        asked = Asked(world_from_seed(seed))
        assert asked.faults(asked.place()) == [], f"world_from_seed({seed})"


@pytest.mark.parametrize("shrink_after", [0, 1_000_000])
def test_shrinking_branches_changes_no_answer(shrink_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: dropping sites that cannot hold the gang only saves work; the twin agrees with and without it."""
    monkeypatch.setattr(close_sites, "SHRINK_AFTER", shrink_after)
    for seed in range(size(60, 200)):
        asked = Asked(world_from_seed(seed))
        if asked.demand.max_cluster_rtt_ms is not None:
            assert asked.faults(asked.place()) == [], f"world_from_seed({seed})"


def test_a_search_that_is_cut_short_says_so_and_its_bound_holds() -> None:
    """Law: beyond the limit every constraint still holds, and the optimum lies between bound and rate."""
    cut_short = 0
    for seed in range(size(150, 300)):
        asked = Asked(world_from_seed(seed))
        found = asked.inventory.placer.place(asked.demand, Search(relaxations_max=1))
        uncapped = Asked(replace(asked.world, request=asked.world.request | {CAP: None}))
        if isinstance(found, NoPlacement):
            cut_short += not found.proven
            assert not (found.proven and uncapped.optimum)
            continue
        assert uncapped.optimum is not None
        assert found.lower_bound <= uncapped.optimum.rate_micro_usd_per_hour <= found.rate
        cut_short += found.lower_bound < found.rate
        gpus, prices = as_rows(uncapped.inventory, found)
        world = uncapped.world
        assert not violations(world.fleet, world.rtt, world.posted, world.request, gpus, prices)
    assert cut_short > size(2, 5)


def ignore_the_tier(asked: Asked) -> Placement | None:
    return asked.place(replace(asked.demand, tier=0))


def split_the_gang(asked: Asked) -> Placement | None:
    if asked.demand.replicas == 1:
        return asked.place()
    return asked.place(replace(asked.demand, replicas=asked.demand.replicas - 1))


def forget_a_pair_of_sites(asked: Asked) -> Placement | None:
    """The RTT between the two sites of one far pair reads as 0."""
    limit = asked.demand.max_cluster_rtt_ms
    sites = range(len(asked.inventory.sites.names))
    rows = [asked.inventory.distances.from_site(site).copy() for site in sites]
    far = [(a, b) for a in sites for b in sites if a < b and limit is not None and rows[a][b] > limit]
    for a, b in far[:1]:
        rows[a][b] = rows[b][a] = 0.0
        asked.inventory.distances.from_site = rows.__getitem__  # type: ignore[method-assign, assignment]
    return asked.place()


def break_an_idle_node_for_nothing(asked: Asked) -> Placement | None:
    """Move one replica from a node that is used up to an equally dear idle one: same rate, two more broken."""
    ours = asked.place()
    if ours is None:
        return None
    g = asked.demand.gpus_per_replica
    nodes = asked.inventory.nodes
    free = asked.inventory.free
    price = np.maximum(nodes.ask_micro_usd, asked.inventory.posted)
    for place, node in enumerate(ours.nodes):
        for other in np.setdiff1d(np.flatnonzero((free == nodes.gpu_count) & (free > g)), ours.nodes):
            if price[other] != price[node] or ours.gpus[place] != nodes.gpu_count[node] or ours.gpus[place] <= g:
                continue
            gpus = np.append(ours.gpus, g)
            gpus[place] -= g
            moved = replace(
                ours,
                nodes=np.append(ours.nodes, other),
                gpus=gpus,
                prices_micro_usd=np.append(ours.prices_micro_usd, price[other]),
            )
            rows, prices = as_rows(asked.inventory, moved)
            world = asked.world
            if not violations(world.fleet, world.rtt, world.posted, world.request, rows, prices):
                return moved
    return ours


@pytest.mark.parametrize(
    "bug", [ignore_the_tier, split_the_gang, forget_a_pair_of_sites, break_an_idle_node_for_nothing]
)
def test_planted_bugs_are_caught(bug: Callable[[Asked], Placement | None]) -> None:
    """The law can fail: each planted bug breaks it in some world."""
    for seed in PLANTED_SEEDS:
        asked = Asked(world_from_seed(seed))
        if asked.faults(bug(asked)):
            return
    pytest.fail(f"{bug.__name__} was not caught in {len(PLANTED_SEEDS)} worlds")


def test_the_answer_does_not_depend_on_the_order_of_rows() -> None:
    """Law 10: same input, same bytes out; ties are broken by stated keys, not by the order of arrival."""
    for seed in range(size(30, 60)):
        world = world_from_seed(seed)
        shuffled = replace(world, fleet=world.fleet[::-1], rtt=world.rtt[::-1])
        ours, theirs = Asked(world), Asked(shuffled)
        one, other = ours.place(), theirs.place()
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert as_rows(ours.inventory, one) == as_rows(theirs.inventory, other)
