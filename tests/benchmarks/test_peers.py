from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.instances import standard
from benchmarks.peers.lineup import GENERAL_SOLVERS, PEERS
from benchmarks.peers.mip import solved_apart
from benchmarks.peers.pop import dealt, part_of
from benchmarks.peers.price_then_greedy import relaxed_prices
from benchmarks.peers.score import checked_welfare, first_fault
from engine.planning.encode import encode
from solvers.planning.dual import dual
from solvers.planning.moves import Placed
from solvers.planning.prepare import prepare
from solvers.planning.problem import NO_SHARE, Problem
from tests.full_size import size

MIP_S = 20.0
LOADS = (0.9, 1.3)[: size(1, 2)]


def problem_at(load: float) -> Problem:
    return encode(standard(load, requests=60, nodes=400).inputs(), 0, 0).problem


def slow(_: object, limit_s: float) -> None:
    time.sleep(limit_s + 60.0)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_at(0.9)


@pytest.fixture(scope="module")
def placed(problem: Problem) -> Placed:
    return PEERS["price_then_greedy"](problem, 1.0)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("name", PEERS)
def test_plans_are_feasible_and_below_the_bound(name: str, load: float) -> None:
    problem = problem_at(load)
    prepared = prepare(problem)
    bound = dual(prepared, relaxed_prices(prepared)).bound
    assert 0 < checked_welfare(problem, PEERS[name](problem, 1.0)) <= bound


@pytest.mark.parametrize("load", LOADS)
def test_general_solvers_agree_and_no_peer_is_above_them(load: float) -> None:
    pytest.importorskip("scipy")
    problem = problem_at(load)
    best = {name: checked_welfare(problem, peer(problem, MIP_S)) for name, peer in GENERAL_SOLVERS.items()}
    others = max(checked_welfare(problem, peer(problem, 1.0)) for peer in PEERS.values())
    assert best["cp_sat"] == pytest.approx(best["highs"], rel=1e-4)
    assert others <= max(best.values()) * (1 + 1e-4)


def test_a_general_solver_out_of_time_has_no_plan(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    monkeypatch.setattr("benchmarks.peers.mip.GRACE_S", 0.0)
    nothing = solved_apart(problem, 0.01, slow)
    assert nothing.request.size == 0
    assert checked_welfare(problem, nothing) == 0


def test_parts_of_pop_are_disjoint_and_alike(problem: Problem) -> None:
    parts = dealt(problem, 4, np.random.default_rng(1))
    sizes = np.bincount(parts)
    assert sizes.sum() == problem.capacity.size
    assert sizes.max() - sizes.min() <= 1
    part = part_of(problem, np.flatnonzero(parts == 0), np.arange(5))
    assert part.capacity.size == sizes[0] == part.nodes.model.size
    assert part.gangs.replicas.size == 5


def test_packing_leaves_more_whole_nodes_than_spreading(problem: Problem) -> None:
    def broken(name: str) -> int:
        plan = PEERS[name](problem, 1.0)
        used = np.bincount(plan.node, weights=plan.gpus, minlength=problem.capacity.size)
        return int(((used > 0) & (used < problem.capacity)).sum())

    assert broken("kube_pack") < broken("kube_spread")


def test_a_feasible_plan_has_no_fault(problem: Problem, placed: Placed) -> None:
    assert first_fault(problem, placed) is None


def test_an_overfull_node_is_found(problem: Problem, placed: Placed) -> None:
    tight = problem.capacity.copy()
    tight[placed.node[0]] = placed.gpus[0] - 1
    assert "overfull" in str(first_fault(replace(problem, capacity=tight), placed))


def test_a_split_gang_is_found(problem: Problem, placed: Placed) -> None:
    counts = np.bincount(placed.request)
    row = int(np.flatnonzero(counts[placed.request] > 1)[0])
    torn = Placed(*(np.delete(column, row) for column in placed))
    assert "split gang" in str(first_fault(problem, torn))


def test_half_a_replica_is_found(problem: Problem, placed: Placed) -> None:
    sizes = problem.gangs.gpus_per_replica[placed.request]
    row = int(np.flatnonzero(sizes > 1)[0])
    gpus = placed.gpus.copy()
    gpus[row] -= 1
    assert "whole replicas" in str(first_fault(problem, placed._replace(gpus=gpus)))


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("tier", 9, "tier"),
        ("connectivity", 9, "connectivity"),
        ("interconnect", 9, "interconnect"),
        ("certifications", 1 << 40, "certifications"),
        ("reliability", 1.1, "reliability"),
        ("max_gpus_per_supplier", 0, "supplier share"),
        ("max_cluster_rtt_ms", -1.0, "distant pair"),
    ],
)
def test_a_broken_demand_is_found(problem: Problem, placed: Placed, column: str, value: float, fault: str) -> None:
    wanted = getattr(problem.gangs, column).copy()
    wanted[placed.request] = value
    harder = replace(problem, gangs=replace(problem.gangs, **{column: wanted}))
    assert fault in str(first_fault(harder, placed))


@pytest.mark.parametrize(
    ("sets", "fault"), [("model_sets", "model"), ("site_sets", "site"), ("supplier_sets", "supplier")]
)
def test_a_node_outside_the_sets_is_found(problem: Problem, placed: Placed, sets: str, fault: str) -> None:
    none = np.zeros_like(getattr(problem, sets))
    assert str(first_fault(replace(problem, **{sets: none}), placed)).startswith(fault)


def test_a_torn_fabric_and_mixed_models_are_found(problem: Problem, placed: Placed) -> None:
    several = [r for r in np.unique(placed.request) if np.unique(placed.node[placed.request == r]).size > 1]
    nodes = placed.node[placed.request == several[0]]
    free = replace(
        problem.gangs,
        one_fabric=np.zeros_like(problem.gangs.one_fabric),
        one_model=np.zeros_like(problem.gangs.one_model),
        max_gpus_per_supplier=np.full_like(problem.gangs.max_gpus_per_supplier, NO_SHARE),
    )
    for rule, column, fault in (("one_fabric", "fabric", "torn fabric"), ("one_model", "model", "several models")):
        bound = getattr(free, rule).copy()
        bound[several[0]] = True
        other = getattr(problem.nodes, column).copy()
        other[nodes[0]] = other[nodes[1]] + 1 if column == "fabric" else 1 - min(int(other[nodes[1]]), 1)
        moved = replace(
            problem,
            gangs=replace(free, **{rule: bound}),
            nodes=replace(problem.nodes, **{column: other}),
            model_sets=np.ones_like(problem.model_sets),
        )
        assert fault in str(first_fault(moved, placed))
