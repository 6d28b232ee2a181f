"""Refusals add up: every set proves by itself, and to a maximum flow that knows nothing of it, what was short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ortools.graph.python import max_flow

from engine.planning.encode import Encoded, encode
from engine.planning.inputs import read_inputs
from engine.planning.refusal_text import Names, RefusalTexts
from solvers.planning import refusals
from solvers.planning.dual import alone_at_asks
from solvers.planning.nest import Market
from solvers.planning.plan import Limits, Plan
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import Problem
from solvers.planning.refusals import Reason, Refusals, charges, explain
from solvers.planning.scarcity import Kind, ScarceSet
from tests.full_size import size
from tests.oracles import optimal_placement
from tests.planning.first_come import first_come, fits, plan_of
from tests.planning.queues import Queue, queue_from_seed
from tests.worlds import SITES

SEEDS = range(size(12, 20))


class Told(NamedTuple):
    queue: Queue
    encoded: Encoded
    plan: Plan
    prepared: Prepared
    refusals: Refusals
    price: np.ndarray
    """Of each node, as it is charged."""

    @property
    def problem(self) -> Problem:
        return self.encoded.problem

    def scarce(self) -> list[ScarceSet]:
        return [scarce for scarce in self.refusals.sets if scarce.kind == Kind.HALL]


def explained(queue: Queue, place: Path) -> Told:
    """First come, first served, at prices that no solver found: sets must be right whatever the plan is worth."""
    encoded = encode(read_inputs(queue.files(place)), 100_000, 7)
    random = np.random.default_rng(len(queue.requests) + encoded.problem.capacity.sum())
    price = random.choice((0.0, 1_500_000.0, 2_400_000.5), encoded.problem.capacity.size)
    return told_of(queue, encoded, first_come(encoded.problem, Limits()), price)


def told_of(queue: Queue, encoded: Encoded, plan: Plan, price: np.ndarray) -> Told:
    problem, prepared = encoded.problem, prepare(encoded.problem)
    possible = np.zeros(problem.gangs.replicas.size)
    at_ask = alone_at_asks(prepared, prepared.placed)
    asked = charges(prepared, price[prepared.rows.node])
    found = explain(problem, prepared, plan.request, plan.node, plan.gpus, asked, possible, at_ask)
    charged = np.maximum(problem.nodes.ask_micro_usd, np.ceil(price))
    return Told(queue, encoded, plan, prepared, found, charged)


def crowded(seed: int, running: int = 0) -> Queue:
    return queue_from_seed(seed, requests=40, running=running)


def free_gpus(told: Told) -> np.ndarray:
    """GPUs of each node that the plan leaves, counted row by row."""
    free, running = told.problem.capacity.copy(), told.problem.running
    pinned = {
        (gang, node): gpus
        for gang, node, gpus, stays in zip(*(c.tolist() for c in (running.request, running.node, running.gpus)),
                                           running.pinned.tolist(), strict=True) if stays
    }  # fmt: skip
    for gang, node, gpus in zip(told.plan.request, told.plan.node, told.plan.gpus, strict=True):
        free[node] -= gpus - pinned.get((int(gang), int(node)), 0)
    return free


def faults_of(told: Told, scarce: ScarceSet) -> list[str]:
    """What a HALL set says and does not prove; `fits` and the flow share no code with it."""
    problem, gangs = told.problem, told.problem.gangs
    in_rows = np.isin(told.prepared.rows.row_of, scarce.rows)
    nodes = told.prepared.rows.node[in_rows].tolist()
    free = free_gpus(told)
    dear = {
        node: int(free[node]) for node in nodes if problem.nodes.ask_micro_usd[node] > scarce.ask_limit_micro_usd
    }
    standing = np.zeros((gangs.replicas.size, problem.capacity.size), dtype=np.int64)
    standing[told.plan.request, told.plan.node] = told.plan.gpus
    stays = problem.running.pinned
    demand = {}
    for gang in scarce.gangs.tolist():
        pinned = np.flatnonzero(stays & (problem.running.request == gang))
        elsewhere = np.setdiff1d(np.arange(problem.capacity.size), np.append(nodes, problem.running.node[pinned]))
        demand[gang] = int(gangs.gpus[gang] - problem.running.gpus[pinned].sum() - standing[gang, elsewhere].sum())
    usable = {
        gang: [
            node
            for node in range(problem.capacity.size)
            if problem.capacity[node] >= gangs.gpus_per_replica[gang] and fits(problem, gang, node)
        ]
        for gang in demand
    }
    exists = {node: int(problem.capacity[node]) - dear.get(node, 0) for node in nodes}
    others = [node for gang in demand for node in usable[gang] if node not in exists]
    least = min((told.price[node] for node in others), default=-1)
    faults = [] if (least < 0) == (scarce.elsewhere_micro_usd < 0) else ["somewhere else or nowhere"]
    if least < scarce.elsewhere_micro_usd:
        faults.append("elsewhere is cheaper")
    if sum(demand.values()) != scarce.wanted_gpus:
        faults.append("wanted")
    if sum(exists.values()) != scarce.existing_gpus or sum(dear.values()) != scarce.dearer_gpus:
        faults.append("existing")
    if most_gpus(demand, usable, exists) >= scarce.wanted_gpus:
        faults.append("all can be served")
    return faults


def most_gpus(demand: dict[int, int], usable: dict[int, list[int]], exists: dict[int, int]) -> int:
    """The most GPUs that any assignment gives to these gangs, were they divisible."""
    flow, source, sink = max_flow.SimpleMaxFlow(), 0, 1
    node_vertex = {node: 2 + place for place, node in enumerate(exists)}
    for node, gpus in exists.items():
        flow.add_arc_with_capacity(node_vertex[node], sink, gpus)
    for place, (gang, gpus) in enumerate(demand.items()):
        vertex = 2 + len(exists) + place
        flow.add_arc_with_capacity(source, vertex, gpus)
        for node in usable[gang]:
            if node in node_vertex:
                flow.add_arc_with_capacity(vertex, node_vertex[node], gpus)
    assert flow.solve(source, sink) == flow.OPTIMAL
    return int(flow.optimal_flow())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hall_set_proves_that_not_all_of_it_can_be_served(seed: int, tmp_path: Path) -> None:
    """Hall 1935: more of its rows is wanted than these have, free GPUs beyond the bid and dearer rows aside."""
    told = explained(crowded(seed, running=seed % 4), tmp_path)
    for scarce in told.scarce():
        assert not faults_of(told, scarce), scarce


def test_most_scarce_requests_have_a_proof(tmp_path: Path) -> None:
    """The law above is not empty: sets of one and of many gangs, with and without dearer GPUs, are there."""
    told = [explained(crowded(seed), tmp_path / str(seed)) for seed in range(12)]
    sets = [scarce for each in told for scarce in each.scarce()]
    assert len(sets) > 30
    assert any(scarce.dearer_gpus for scarce in sets)
    assert any(scarce.gangs.size > 4 for scarce in sets)
    assert {scarce.elsewhere_micro_usd >= 0 for scarce in sets} == {True, False}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_open_request_is_served_or_refused_once(seed: int, tmp_path: Path) -> None:
    """docs/planning.md, rule 9; what points at a set is in it, and sets are told apart by what they say."""
    told = explained(crowded(seed, running=seed % 4), tmp_path)
    refused, running = told.refusals, told.problem.running
    served = set(told.plan.request.tolist())
    everyone = set(range(told.problem.gangs.replicas.size))
    assert refused.gang.tolist() == sorted(everyone - served)
    for gang, reason, index in zip(refused.gang, refused.reason, refused.scarce_set, strict=True):
        if reason in (Reason.NO_FEASIBLE_PLACEMENT, Reason.PRICE_TOO_LOW):
            assert index == -1
        if reason == Reason.SCARCE_CAPACITY:
            assert index >= 0
        if index >= 0:
            assert gang in refused.sets[index].gangs
        assert (reason in (Reason.DISPLACED, Reason.PREEMPTED)) == (gang in running.request)
        assert (reason == Reason.DISPLACED) == told.encoded.displaced[gang]
    assert set(refused.scarce_set.tolist()) - {-1} == set(range(len(refused.sets)))


@pytest.mark.parametrize("seed", range(8))
def test_too_low_is_a_bid_below_the_cheapest_placement_alone(seed: int, tmp_path: Path) -> None:
    """NO_FEASIBLE_PLACEMENT and PRICE_TOO_LOW if and only if the exact twin of one request says so."""
    told = explained(queue_from_seed(seed, requests=20, running=0), tmp_path)
    queue, refused = told.queue, told.refusals
    for gang, reason, price in zip(refused.gang, refused.reason, refused.price_alone, strict=True):
        request = queue.requests[gang]
        free = {name: value for name, value in request.items() if name != "max_price_micro_usd_per_gpu_hour"}
        best = optimal_placement(queue.fleet, queue.rtt, {}, free)
        bid = request["gpu_count"] * request["max_price_micro_usd_per_gpu_hour"]
        assert (reason == Reason.NO_FEASIBLE_PLACEMENT) == (best is None) == (price == -1)
        if best is not None:
            assert (reason == Reason.PRICE_TOO_LOW) == (best.rate_micro_usd_per_hour > bid)
            assert price * request["gpu_count"] >= best.rate_micro_usd_per_hour


PLANTS: dict[str, Callable[[ScarceSet, int], ScarceSet]] = {
    "a GPU too many is wanted": lambda scarce, _: replace(scarce, wanted_gpus=scarce.wanted_gpus + 1),
    "a GPU is forgotten": lambda scarce, _: replace(scarce, existing_gpus=scarce.existing_gpus - 1),
    "a row is forgotten": lambda scarce, _: replace(scarce, rows=scarce.rows[1:]),
    "a gang is forgotten": lambda scarce, _: replace(scarce, gangs=scarce.gangs[1:]),
    "dearer GPUs elsewhere are cheaper than said": lambda scarce, _: replace(scarce, elsewhere_micro_usd=1 << 40),
    "a gang that could go elsewhere is counted": lambda scarce, other: replace(
        scarce, gangs=np.append(scarce.gangs, other)
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_bugs_are_found(plant: str, tmp_path: Path) -> None:
    told = explained(crowded(3), tmp_path)
    assert told.scarce()
    for scarce in told.scarce():
        others = np.setdiff1d(told.refusals.gang, scarce.gangs)
        assert faults_of(told, PLANTS[plant](scarce, int(others[0]))), scarce


BUGS: dict[str, Callable[[Market], Market]] = {
    "capacity is forgotten": lambda market: replace(market, capacity=market.capacity // 2),
    "everybody wants twice as much": lambda market: replace(market, demand=2 * market.demand),
    "free GPUs are forgotten": lambda market: replace(market, free_before=0 * market.free_before),
    "prices are too high": lambda market: replace(market, price=market.price * market.capacity),
}


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_in_what_is_counted_are_found(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = refusals.market_of
    monkeypatch.setattr(refusals, "market_of", lambda *given: BUGS[bug](honest(*given)))
    told = [explained(crowded(seed), tmp_path / str(seed)) for seed in range(6)]
    assert any(faults_of(each, scarce) for each in told for scarce in each.scarce())


def names_of(told: Told) -> Names:
    fleet = told.encoded.fleet
    return Names(
        models=fleet.models.names,
        sites=fleet.sites.names,
        regions=fleet.regions.names,
        countries=fleet.countries.names,
        suppliers=fleet.suppliers.names,
        certifications=fleet.certifications.names,
        site_region=fleet.site_region,
        site_country=fleet.site_country,
    )


def details(told: Told) -> list[str]:
    texts = RefusalTexts(told.problem, told.prepared.rows.table, names_of(told), told.encoded.max_price_micro_usd)
    return texts.details(told.refusals)


@pytest.mark.parametrize("seed", range(10))
def test_each_refusal_is_one_sentence_and_the_same_again(seed: int, tmp_path: Path) -> None:
    told = explained(crowded(seed, running=seed % 4), tmp_path / "one")
    told_again = explained(crowded(seed, running=seed % 4), tmp_path / "two")
    sentences = details(told)
    assert sentences == details(told_again)
    assert len(sentences) == told.refusals.gang.size
    assert all(sentence and "\n" not in sentence for sentence in sentences)


def node_of(name: str, site: str, tier: str) -> dict[str, Any]:
    region, country, latitude, longitude = SITES[site]
    return {
        "node_id": name, "supplier_id": "s", "gpu_model": "H100", "gpu_count": 8, "gpu_free": 8, "site_id": site,
        "region": region, "country": country, "latitude": latitude, "longitude": longitude, "security_tier": tier,
        "certifications": [], "connectivity_tier": "LOW", "reliability": 0.9, "interconnect": "ETHERNET",
        "ask_micro_usd_per_gpu_hour": 1_000_000, "fabric_id": None, "state": "READY",
    }  # fmt: skip


def by_hand(
    fleet: list[dict[str, Any]],
    requests: list[dict[str, Any]],
    rows: list[tuple[int, int, int]],
    price: Sequence[float],
    place: Path,
) -> Told:
    rest = {"tenant_id": "t", "submitted_at_us": 0, "duration_s": 3600}
    numbered = [{"request_id": f"r{number}"} | rest | row for number, row in enumerate(requests)]
    queue = Queue(fleet, [], numbered, [])
    encoded = encode(read_inputs(queue.files(place)), 0, 0)
    return told_of(queue, encoded, plan_of(encoded.problem, rows), np.array(price))


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    """docs/planning-refusals.md: own rows are not short, the market around them is, and r4 is no part of it."""
    nodes = (
        ("a", "dub1", "SECURE"),
        ("b", "dub1", "SECURE"),
        ("c", "dub1", "COMMUNITY"),
        ("d", "iad1", "COMMUNITY"),
    )
    secure, close = {"min_security_tier": "SECURE"}, {"sites": ["dub1"]}
    asked = (secure | close, 4), (close, 3), (close, 3), (secure | close, 2), ({}, 2)
    requests = [
        {"gpu_count": 8, "max_price_micro_usd_per_gpu_hour": usd * 1_000_000} | wanted for wanted, usd in asked
    ]
    rows = [(0, 0, 8), (1, 1, 8), (2, 2, 8), (4, 3, 8)]
    told = by_hand([node_of(*each) for each in nodes], requests, rows, (3e6, 3e6, 3e6, 2e6), tmp_path)
    [scarce] = told.refusals.sets
    assert not faults_of(told, scarce)
    assert sorted(scarce.gangs.tolist()) == [0, 1, 2, 3]
    assert details(told) == [
        "these 4 requests want 32 GPUs of H100, at dub1; 24 exist; "
        "at this plan's prices it would pay $3.00 per GPU-hour"
    ]


def test_broken_nodes_are_told_with_numbers(tmp_path: Path) -> None:
    """Nothing is short in GPUs, but no node has a whole replica free."""
    fleet = [node_of("a", "dub1", "SECURE"), node_of("b", "dub1", "SECURE")]
    requests = [
        {"gpu_count": 4, "max_price_micro_usd_per_gpu_hour": 3_000_000},
        {"gpu_count": 4, "max_price_micro_usd_per_gpu_hour": 1_500_000},
        {"gpu_count": 8, "gpus_per_node": 8, "max_price_micro_usd_per_gpu_hour": 2_000_000},
    ]
    told = by_hand(fleet, requests, [(0, 0, 4), (1, 1, 4)], (1e6, 1e6), tmp_path)
    [scarce] = told.refusals.sets
    assert (scarce.kind, scarce.wanted_gpus, scarce.existing_gpus) == (Kind.INDIVISIBLE, 8, 0)
    assert scarce.gangs.tolist() == [0, 1, 2]
    assert details(told) == [
        "8 GPUs in whole replicas of 8 need free room for 1 together; the best place (H100, at dub1) has it for "
        "0, and of 2 others there 1 are worth more per GPU; "
        "at $1.00 per GPU-hour it would pay its way, but it takes all of its GPUs or none"
    ]


@pytest.mark.parametrize(("nodes", "requests"), [(0, 0), (0, 2), (2, 0)])
def test_worlds_with_nothing_in_them_are_explained(nodes: int, requests: int, tmp_path: Path) -> None:
    fleet = [node_of(name, "dub1", "SECURE") for name in "ab"[:nodes]]
    asked = [{"gpu_count": 1, "max_price_micro_usd_per_gpu_hour": 3_000_000}] * requests
    told = by_hand(fleet, asked, [], [1e6] * nodes, tmp_path)
    assert told.refusals.reason.tolist() == [Reason.NO_FEASIBLE_PLACEMENT] * requests
    assert told.refusals.price_alone.tolist() == [-1] * requests
    nowhere = "no placement of 1 GPU on what this plan may give keeps all of its constraints"
    assert details(told) == [f"{nowhere}, even if nothing else were placed"] * requests
