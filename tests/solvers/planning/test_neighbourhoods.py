"""Repair of neighbourhoods never loses welfare, keeps all rules, can be repeated, and finds what is planted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from solvers.planning.assignment import Assignment
from solvers.planning.dual import alone_at_asks
from solvers.planning.first_plan import first_plan
from solvers.planning.neighbourhoods import improve_by_repair
from solvers.planning.parts import reach_of
from solvers.planning.passes import task_of
from solvers.planning.prepare import prepare
from solvers.planning.problem import NO_SHARE, Problem
from solvers.planning.relaxed_market import Market, price
from solvers.planning.workers import Task
from tests.solvers.planning.small_problems import faults, present, small_problem

ROUNDS = 12
Start = tuple[Problem, Task, Market, Assignment]


def started(problem: Problem) -> Start:
    """A problem with the plan that the search begins with."""
    prepared = prepare(problem)
    market = price(prepared)
    return (
        problem,
        task_of(prepared, market, alone_at_asks(prepared, prepared.placed), reach_of(prepared, prepared.placed)),
        market,
        first_plan(prepared, market),
    )


def improved(start: Start, seed: int = 0, rounds: int = ROUNDS, out_of_time: bool = False) -> int:
    problem, task, market, assignment = start
    random = np.random.default_rng(seed)
    prices = market.dual.minimum, market.dual.price
    return improve_by_repair(problem, task, *prices, assignment, random, rounds, 0.5, lambda: out_of_time)


def planted() -> Problem:
    """Gang 1 stands on the only node that gang 0 may use, though another one would do for it."""
    problem = small_problem(3, nodes=2, gangs=2, runs_percent=0)
    gangs, nodes, two = problem.gangs, problem.nodes, np.array([1, 1])
    fleet = dataclasses.replace(
        nodes,
        **dict.fromkeys(("model", "site", "certifications", "connectivity", "supplier", "interconnect"), two),
        tier=np.array([3, 1]),
        fabric=np.array([-1, -1]),
        gpu_count=np.array([4, 4]),
        ask_micro_usd=np.array([1_000_000, 1_100_000]),
    )
    wanted = dataclasses.replace(
        gangs,
        **dict.fromkeys(("model_set", "site_set", "supplier_set", "connectivity", "interconnect"), two * 0),
        certifications=two * 0,
        replicas=np.array([1, 1]),
        gpus_per_replica=np.array([4, 4]),
        value_micro_usd=np.array([2_000_000, 3_000_000]),
        tier=np.array([2, 1]),
        one_fabric=two == 0,
        reliability=two * 0.0,
        max_gpus_per_supplier=two * NO_SHARE,
        max_cluster_rtt_ms=two * np.inf,
    )
    return dataclasses.replace(problem, nodes=fleet, capacity=fleet.gpu_count, gangs=wanted)


def in_the_way(problem: Problem) -> Start:
    """The planted problem, with gang 1 on node 0."""
    _, task, market, _ = started(problem)
    assignment = Assignment(task.prepared)
    assignment.put(1, task.prepared.slot_of[[0]], np.array([1]))
    return problem, task, market, assignment


def faults_of(start: Start) -> list[str]:
    """Everything wrong with the plan as it stands."""
    problem, _, _, assignment = start
    request, node, gpus = assignment.rows()[:3]
    found: list[str] = []
    given = np.zeros(problem.capacity.size, dtype=np.int64)
    for gang in range(problem.gangs.replicas.size):
        mine = request == gang
        placement = dict(zip(node[mine].tolist(), gpus[mine].tolist(), strict=True))
        found += faults(problem, gang, placement) if placement else []
        found += ["not served"] if problem.gangs.must_serve[gang] and not placement else []
        pinned = present(problem, gang, pinned=True)
        for one, count in placement.items():
            given[one] += count - pinned.get(one, 0)
    return found + [f"node {one} is overfull" for one in np.flatnonzero(given > problem.capacity)]


@pytest.mark.parametrize("seed", range(30))
def test_it_gains_what_it_says_and_keeps_all_rules(seed: int) -> None:
    start = started(small_problem(seed, nodes=12, gangs=8))
    served = bool(start[3].placed[start[1].prepared.standing.open & start[0].gangs.must_serve].all())
    before = start[3].welfare()
    gained = improved(start)
    assert gained >= 0
    assert start[3].welfare() == before + gained
    assert [fault for fault in faults_of(start) if served or fault != "not served"] == []


def test_it_gains_on_some_of_them() -> None:
    assert any(improved(started(small_problem(seed, nodes=12, gangs=8))) > 0 for seed in range(30))


def test_it_finds_the_planted_improvement() -> None:
    start = in_the_way(planted())
    assert improved(start, rounds=3) == 4 * (2_000_000 - 1_100_000)
    assert start[3].rows()[1].tolist() == [0, 1]


def test_same_seed_same_plan() -> None:
    problem = small_problem(8, nodes=12, gangs=8)
    one, two = started(problem), started(problem)
    assert improved(one, seed=4) == improved(two, seed=4)
    assert [column.tolist() for column in one[3].rows()[:3]] == [column.tolist() for column in two[3].rows()[:3]]


@pytest.mark.parametrize(("rounds", "out_of_time"), [(0, False), (3, True)])
def test_no_time_changes_nothing(rounds: int, out_of_time: bool) -> None:
    start = in_the_way(planted())
    before = start[3].welfare()
    assert improved(start, rounds=rounds, out_of_time=out_of_time) == 0
    assert start[3].welfare() == before
