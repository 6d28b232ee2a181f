"""Pools stay true to the nodes they were folded from, through any sequence of leases (solvers.pools)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.placement import Placement
from solvers.pools import BASE, COLUMNS, END, GPU_COUNT, HISTOGRAM, START, Pools
from tests.solvers.bridge import inventory_of
from tests.solvers.laws import Asked
from tests.worlds import world_from_seed


def assert_pools_add_up(pools: Pools, free: np.ndarray) -> None:
    """Every node in one slot, free counts equal, each histogram a count of its base, and what pools have left."""
    assert sorted(pools.node.tolist()) == list(range(free.size))
    assert (pools.free == free[pools.node]).all()
    assert pools.table.shape[1] == COLUMNS
    assert (pools.left == np.bincount(pools.pool_of, pools.free, minlength=len(pools.table))).all()
    for row in pools.table:
        cells = pools.histogram[row[HISTOGRAM] : row[HISTOGRAM] + row[GPU_COUNT] + 1]
        base = pools.free[row[START] : row[BASE]]
        assert row[START] <= row[BASE] <= row[END]
        assert (cells == np.bincount(base, minlength=row[GPU_COUNT] + 1)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 10_000), max_size=8))
def test_leases_keep_pools_and_nodes_equal(seed: int, releases: list[int]) -> None:
    """Law 1, inside: taking and giving back in any order leaves the pools as a fresh fold would build them."""
    asked = Asked(world_from_seed(seed))
    inventory, taken = asked.inventory, []
    for _ in range(4):
        found = asked.place()
        if isinstance(found, Placement):
            inventory.lease(found.nodes, found.gpus)
            taken.append(found)
    for choice in releases:
        if taken:
            found = taken.pop(choice % len(taken))
            inventory.lease(found.nodes, -found.gpus)
    assert_pools_add_up(inventory.pools, inventory.free)
    fresh = Pools(inventory.nodes, inventory.free, inventory.market, asked.posted_of_market, len(inventory.models))
    assert (fresh.histogram == inventory.pools.histogram).all()
    assert (fresh.free == inventory.pools.free).all()


def test_a_placement_after_leases_equals_one_on_a_fresh_fold() -> None:
    """In-place updates change no decision: the second request is answered as by an engine that just started."""
    for seed in range(40):
        asked = Asked(world_from_seed(seed))
        first = asked.place()
        if first is None:
            continue
        asked.inventory.lease(first.nodes, first.gpus)
        fresh = inventory_of(asked.world)
        fresh.unused[:] = asked.inventory.unused
        del fresh.placer  # so that the pools are folded anew
        fresh.post(asked.posted_of_market, "fresh")
        second, again = asked.place(), fresh.placer.place(asked.demand)
        if second is None:
            continue
        assert isinstance(again, Placement)
        assert (np.sort(second.nodes) == np.sort(again.nodes)).all()
        assert second.rate == again.rate
