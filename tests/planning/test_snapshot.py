"""A queue on a snapshot of the market is the same problem as the same queue in files, which other code reads."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.domain.errors import Refused
from engine.domain.tables import FLEET_SCHEMA, PLACEMENTS_SCHEMA, REQUESTS_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState
from engine.market.apply import apply
from engine.market.commands import DeployCluster
from engine.market.decide import decide
from engine.market.state import MarketState
from engine.planning.encode import encode
from engine.planning.inputs import Inputs
from engine.planning.snapshot import Queue, Rules, queue_of, take
from solvers.planning.problem import Problem
from tests.full_size import size
from tests.market.books import NoBook
from tests.solvers.bridge import inventory_of, request_of
from tests.worlds import MODELS, World, world_from_seed

CAP, BONUS, MOVE_COST = 5_000_000, 70, 3
SEEDS = range(size(50, 80))


def bounded(world: World, request_id: str) -> dict[str, Any]:
    """The world's request as a plan takes it."""
    row = {"request_id": request_id, "duration_s": 3_600, "max_price_micro_usd_per_gpu_hour": CAP}
    return {
        **row,
        **{name: value for name, value in world.request.items() if value is not None and name not in row},
    }


def in_files(world: World, rows: list[dict[str, Any]], placements: list[dict[str, Any]]) -> Problem:
    """The same as files, nodes in the order of their ids."""
    columns = [{"tenant_id": "alice", "submitted_at_us": 0, **row} for row in rows]
    inputs = Inputs(
        fleet=pl.DataFrame(world.fleet, schema=FLEET_SCHEMA).sort("node_id"),
        requests=pl.DataFrame(columns, schema=REQUESTS_SCHEMA).with_columns(
            pl.col("gpus_per_node").fill_null(1),
            pl.col("allow_mixed_models", "same_fabric", "interruptible").fill_null(False),
        ),
        rtt=pl.DataFrame(world.rtt, schema=RTT_SCHEMA),
        placements=pl.DataFrame(placements, schema=PLACEMENTS_SCHEMA),
        contents={},
    )
    return encode(inputs, MOVE_COST, BONUS).problem


def in_market(state: MarketState, rows: list[dict[str, Any]]) -> Queue:
    """The queue on a snapshot of the market, leases included."""
    rules = Rules(MOVE_COST, BONUS, movable_leases=True)
    snapshot = take(state, "alice", movable_leases=True)
    return queue_of(snapshot, [request_of(row) for row in rows], rules, frozenset(MODELS))


def assert_same(ours: Problem, theirs: Problem) -> None:
    """Field by field, sets by their members."""
    for sets, of in (("model_sets", "model_set"), ("site_sets", "site_set"), ("supplier_sets", "supplier_set")):
        members = [getattr(each, sets)[getattr(each.gangs, of)] for each in (ours, theirs)]
        assert (members[0] == members[1]).all(), sets
    for part, skip in (("gangs", ("model_set", "site_set", "supplier_set")), ("running", ()), ("nodes", ())):
        for field in fields(getattr(ours, part)):
            if field.name not in skip:
                a, b = (getattr(getattr(each, part), field.name) for each in (ours, theirs))
                assert np.array_equal(a, b), (part, field.name, a, b)
    assert np.array_equal(ours.capacity, theirs.capacity)
    assert ours.move_cost_micro_usd == theirs.move_cost_micro_usd


@pytest.mark.parametrize("seed", SEEDS)
def test_an_idle_market(seed: int) -> None:
    """Law: two codecs that share nothing read the same problem out of a world in which every constraint bites."""
    world = world_from_seed(seed)
    state = MarketState(inventory=inventory_of(world))
    plain = {"gpu_count": 2, "duration_s": 60, "max_price_micro_usd_per_gpu_hour": CAP}
    rows = [bounded(world, "a"), {"request_id": "b", **plain}]
    assert_same(in_market(state, rows).problem, in_files(world, rows, []))


def test_running_leases() -> None:
    """Law: leases are movable rows, and displaced ones are worth the bonus more; others' leases are left out."""
    seen = {True: 0, False: 0}
    for seed in SEEDS:
        world = world_from_seed(seed)
        state = MarketState(inventory=inventory_of(world))
        row = bounded(world, "x")
        for tenant in ("alice", "bob"):
            try:
                (event,) = decide(state, DeployCluster(tenant, request_of(row)), 0, NoBook())
            except Refused:
                continue
            apply(state, event)
        if seed % 2 and state.leases:
            state.inventory.set_state(next(iter(state.leases.values())).standing.node_numbers[0], NodeState.DOWN)
        queue = in_market(state, [bounded(world, "a")])
        if len(queue.gangs) < 2:
            continue
        seen[queue.gangs[1].displaced] += 1
        standing = queue.gangs[1].standing
        assert standing is not None
        names = state.inventory.node_ids[standing.node_numbers].tolist()
        placements = [
            {"request_id": "x", "node_id": name, "gpus": gpus, "movable": True}
            for name, gpus in zip(names, standing.gpus_per_node.tolist(), strict=True)
        ]
        number, unused = state.inventory.number, state.inventory.unused
        fleet = [
            {
                **each,
                "gpu_free": int(unused[number[each["node_id"]]]),
                "state": NodeState(int(state.inventory.state[number[each["node_id"]]])).name,
            }
            for each in world.fleet
        ]
        taken = World(fleet, world.rtt, world.posted, world.request)
        assert_same(queue.problem, in_files(taken, [bounded(world, "a"), row], placements))
    assert min(seen.values()) > len(SEEDS) // 4
