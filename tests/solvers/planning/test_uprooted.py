"""Law: a first plan has an order of moves, however many gangs lost some of their nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from solvers.planning import first_plan as first
from solvers.planning.assignment import Assignment
from solvers.planning.moves import Placed, order
from solvers.planning.prepare import prepare
from solvers.planning.problem import NO_SHARE, Problem, Running
from solvers.planning.relaxed_market import price
from solvers.planning.uprooted import place_uprooted, uprooted
from tests.solvers.planning.small_problems import small_problem

NODES, GANGS, SEEDS = 12, 6, range(60)


def half_uprooted(seed: int) -> Problem:
    """Gangs of two GPUs stand on two nodes each; a third of the nodes go down. Each has sites of its own."""
    random = Random(seed)
    base = small_problem(seed, nodes=NODES, gangs=GANGS, runs_percent=0)
    zeros, ones = np.zeros(GANGS, dtype=np.int64), np.ones(GANGS, dtype=np.int64)
    gangs = dataclasses.replace(
        base.gangs,
        **dict.fromkeys(("model_set", "supplier_set", "tier", "certifications", "connectivity"), zeros),
        **dict.fromkeys(("one_fabric", "one_model", "must_serve"), zeros > 0),
        interconnect=zeros,
        replicas=2 * ones,
        gpus_per_replica=ones,
        value_micro_usd=ones * 1_000_000 + np.array([random.randrange(9_000_000) for _ in range(GANGS)]),
        site_set=np.arange(GANGS),
        reliability=zeros * 0.0,
        max_gpus_per_supplier=ones * NO_SHARE,
        max_cluster_rtt_ms=ones * np.inf,
    )
    nodes = dataclasses.replace(
        base.nodes,
        site=np.arange(NODES) % base.site_sets.shape[1],
        gpu_count=np.ones(NODES, dtype=np.int64),
        ask_micro_usd=np.array([random.randrange(1, 900_000) for _ in range(NODES)]),
    )
    capacity = np.array([int(random.random() < 0.67) for _ in range(NODES)])
    at = np.array(random.sample(range(NODES), 2 * GANGS)).reshape(GANGS, 2)[: GANGS - 2]
    request, node = np.repeat(np.arange(GANGS - 2), 2), np.sort(at, axis=1).ravel()
    site_sets = np.array([[random.random() < 0.7 for _ in range(base.site_sets.shape[1])] for _ in range(GANGS)])
    site_sets[request, nodes.site[node]] = True
    return dataclasses.replace(
        base,
        nodes=nodes,
        capacity=capacity,
        gangs=gangs,
        model_sets=np.ones_like(base.model_sets),
        site_sets=site_sets,
        supplier_sets=np.ones_like(base.supplier_sets),
        running=Running(request, node, np.ones_like(node), np.zeros(node.size, dtype=bool)),
        move_cost_micro_usd=0,
    )


def blocked(problem: Problem) -> int:
    """Gangs of the first plan for which there is no step."""
    prepared = prepare(problem)
    plan = first.first_plan(prepared, price(prepared))
    return int(order(problem, Placed(*plan.rows())).blocked.size)


def test_a_first_plan_has_an_order_of_moves() -> None:
    assert sum(int(uprooted(Assignment(prepare(half_uprooted(seed)))).sum()) for seed in SEEDS) > 30
    assert [blocked(half_uprooted(seed)) for seed in SEEDS] == [0] * len(SEEDS)


def test_what_is_held_is_given_back() -> None:
    """After all uprooted gangs are placed or refused, free GPUs are capacity less what is placed."""
    for seed in SEEDS:
        prepared = prepare(half_uprooted(seed))
        plan = first.first_plan(prepared, price(prepared))
        gang, slot, take = plan.entries()
        used = np.bincount(slot, take * prepared.problem.gangs.gpus_per_replica[gang], plan.free.size)
        assert np.array_equal(plan.free, prepared.capacity - used)


def test_gangs_that_ignore_each_other_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: uprooted gangs are placed like new ones."""

    def careless(_: Assignment, gangs: np.ndarray, insert: Callable[[np.ndarray], None]) -> None:
        insert(gangs)

    assert place_uprooted is first.place_uprooted
    monkeypatch.setattr(first, "place_uprooted", careless)
    assert sum(blocked(half_uprooted(seed)) > 0 for seed in SEEDS) > 0
