"""Insisting on a gang: what no single round gains, and nothing lost where it gains nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from solvers.planning.assignment import Assignment
from solvers.planning.dual import alone_at_asks
from solvers.planning.parts import reach_of
from solvers.planning.passes import lasting, task_of
from solvers.planning.prepare import prepare
from solvers.planning.problem import NO_SHARE, Problem
from solvers.planning.relaxed_market import guide, price
from solvers.planning.workers import Part, Threads
from tests.solvers.planning.small_problems import small_problem
from tests.solvers.planning.test_search import Begun, begun, faults_of_state

PAIRS, EIGHT = 6, 8
NOBODY = np.empty(0, dtype=np.int64)


def searched_on(world: Begun, seeds: np.ndarray, tries: int, seed: int) -> int:
    """The welfare that rounds from `seeds`, and insisting so often, gained."""
    prepared, market, task, assignment = world
    before = assignment.welfare()
    follow = lasting(guide(prepared, market.row_price), task)
    owner, part = np.where(task.able, 0, -1), Part(0, seed + 1, seeds, tries)
    Threads(1).search(task, follow.price, follow.walk, owner, [part], assignment, np.inf)
    return assignment.welfare() - before


def in_each_others_way() -> Problem:
    """A large gang, 0, wants the nodes of six, each of which wants the node of another, which could go elsewhere.

    Model 0 has six nodes, where the gangs 1 to 6 stand; they accept models 1 to 6, too, of one node each, where
    the gangs 7 to 12 stand, and these models 7 to 12, of one free node each, at a higher ask.
    """
    base = small_problem(0, nodes=3 * PAIRS, gangs=1 + 2 * PAIRS, runs_percent=0)
    gangs, nodes = 1 + 2 * PAIRS, 3 * PAIRS
    zeros, ones = np.zeros(gangs, dtype=np.int64), np.ones(gangs, dtype=np.int64)
    first, second = np.arange(1, PAIRS + 1), np.arange(PAIRS + 1, 2 * PAIRS + 1)
    accepts = np.zeros((gangs, gangs), dtype=bool)
    accepts[0, 0] = accepts[first, 0] = accepts[first, first] = True
    accepts[second, first] = accepts[second, second] = True
    model = np.concatenate([np.zeros(PAIRS, dtype=np.int64), first, second])
    same = dict.fromkeys(("site", "tier", "certifications", "connectivity", "interconnect", "fabric", "supplier"))
    return dataclasses.replace(
        base,
        nodes=dataclasses.replace(
            base.nodes,
            **dict.fromkeys(same, np.zeros(nodes, dtype=np.int64)),
            model=model,
            gpu_count=np.full(nodes, EIGHT),
            ask_micro_usd=np.where(model > PAIRS, 2_000_000, 1_000_000),
        ),
        capacity=np.full(nodes, EIGHT),
        gangs=dataclasses.replace(
            base.gangs,
            **dict.fromkeys(("site_set", "supplier_set", "tier", "certifications", "connectivity"), zeros),
            **dict.fromkeys(("one_fabric", "must_serve"), zeros > 0),
            interconnect=zeros,
            one_model=ones > 0,
            replicas=np.where(np.arange(gangs) == 0, PAIRS, 1),
            gpus_per_replica=ones * EIGHT,
            value_micro_usd=np.where(np.arange(gangs) == 0, 5_000_000, 10_000_000),
            model_set=np.arange(gangs),
            reliability=zeros * 0.0,
            max_gpus_per_supplier=ones * NO_SHARE,
            max_cluster_rtt_ms=ones * np.inf,
        ),
        model_sets=accepts,
        site_sets=np.ones_like(base.site_sets[:1]),
        supplier_sets=np.ones_like(base.supplier_sets[:1]),
    )


def stuck() -> Begun:
    """All but the large gang stand on the node of their own number."""
    problem = in_each_others_way()
    prepared = prepare(problem)
    market, assignment = price(prepared), Assignment(prepared)
    for gang in range(1, 1 + 2 * PAIRS):
        assignment.put(gang, prepared.slot_of[[gang - 1]], np.ones(1, dtype=np.int64))
    task = task_of(prepared, market, alone_at_asks(prepared, prepared.placed), reach_of(prepared, prepared.placed))
    return Begun(prepared, market, task, assignment)


def test_a_large_gang_finds_room_that_no_round_finds() -> None:
    """Six have to go to where six others stand, who have to go elsewhere: a round moves two of them at most."""
    all_gangs = np.tile(np.arange(1 + 2 * PAIRS), 100)
    assert searched_on(stuck(), all_gangs, tries=0, seed=1) == 0
    world = stuck()
    assert searched_on(world, NOBODY, tries=1, seed=1) == EIGHT * PAIRS * (5_000_000 - 1_000_000 - 1_000_000)
    assert world.assignment.placed.all() and not faults_of_state(world)


@pytest.mark.parametrize("runs_percent", [0, 60])
def test_nothing_is_lost_where_nothing_is_gained(runs_percent: int) -> None:
    """Law: welfare never falls, what must stay served does, and all that is given up again stands as it stood."""
    gains = []
    for seed in range(60):
        world = begun(seed, runs_percent)
        assignment, must = world.assignment, world.prepared.problem.gangs.must_serve
        before, kept = [part.tolist() for part in assignment.entries()], assignment.placed[must].copy()
        gains.append(searched_on(world, NOBODY, tries=4, seed=seed))
        assert gains[-1] > 0 or [part.tolist() for part in assignment.entries()] == before
        assert (assignment.placed[must] >= kept).all() and not faults_of_state(world)
    assert min(gains) == 0 < max(gains)
