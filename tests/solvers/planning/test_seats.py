"""Parts, CPU and memory in the search: what is left of every card and node, whatever was tried and undone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.planning.dual import alone_at_asks
from solvers.planning.first_plan import first_plan
from solvers.planning.parts import reach_of
from solvers.planning.passes import task_of
from solvers.planning.prepare import prepare
from solvers.planning.problem import MILLI, NO_SHARE, UNSHARED, Needs, Problem, Spare
from solvers.planning.relaxed_market import price
from tests.full_size import size
from tests.solvers.planning.small_problems import small_problem
from tests.solvers.planning.test_search import Begun, searched

GANGS, NODES = 20, 8
SEEDS = st.integers(0, 10_000)


def tight_problem(seed: int) -> Problem:
    """A small problem in which half of the gangs are parts; cards with immovable parts take some GPUs."""
    problem, random = small_problem(seed, nodes=NODES, gangs=GANGS, runs_percent=0), np.random.default_rng(seed)
    gangs, cards = problem.gangs, int(problem.nodes.gpu_count.max())
    milli = np.where(random.random(GANGS) < 0.5, random.integers(1, MILLI, GANGS), 0)
    needs = Needs(random.choice([0, 0, 500, 2_000], GANGS), random.choice([0, 0, 10, 70], GANGS), milli)
    left = np.full((NODES, cards), UNSHARED)
    left[np.arange(cards) >= problem.nodes.gpu_count[:, None]] = 0
    fixed = (random.random(NODES) < 0.4) & (problem.capacity > 0)
    left[fixed, 0] = random.integers(0, MILLI, NODES)[fixed]
    spare = Spare(random.integers(0, 9_000, NODES), random.integers(0, 300, NODES), left)
    one = milli > 0
    return replace(
        problem,
        capacity=problem.capacity - fixed,
        gangs=replace(
            gangs,
            replicas=np.where(one, 1, gangs.replicas),
            gpus_per_replica=np.where(one, 1, gangs.gpus_per_replica),
            max_gpus_per_supplier=np.where(one, NO_SHARE, gangs.max_gpus_per_supplier),
            needs=needs,
        ),
        spare=spare,
    )


def begun(problem: Problem) -> Begun:
    prepared = prepare(problem)
    market = price(prepared)
    task = task_of(prepared, market, alone_at_asks(prepared, prepared.placed), reach_of(prepared, prepared.placed))
    return Begun(prepared, market, task, first_plan(prepared, market))


def faults_of_state(world: Begun) -> list[str]:
    """What is left of each slot against what the placements leave there, and what nobody could stand on."""
    prepared, assignment = world.prepared, world.assignment
    gangs, needs = prepared.problem.gangs, prepared.problem.gangs.needs
    assert needs is not None and assignment.card is not None
    slots = prepared.ask.size
    free, cpu, memory, left = (array.copy() for array in prepared.room)
    cells, taken = left.reshape(slots, -1), Counter[tuple[int, int]]()
    for gang, slot, take in zip(*(column.tolist() for column in assignment.entries()), strict=True):
        cpu[slot] -= take * needs.cpu_milli[gang]
        memory[slot] -= take * needs.memory_mib[gang]
        if needs.gpu_milli[gang]:
            taken[slot, int(assignment.card[gang])] += int(needs.gpu_milli[gang])
        else:
            free[slot] -= take * gangs.gpus_per_replica[gang]
    for (slot, card), milli in taken.items():
        free[slot] -= cells[slot, card] == UNSHARED
        cells[slot, card] = (MILLI if cells[slot, card] == UNSHARED else cells[slot, card]) - milli
    due = zip(("free", "cpu", "memory", "cards"), (free, cpu, memory, left), strict=True)
    state = (assignment.state[4], *assignment.state[8:11])
    faults = [name for (name, wanted), found in zip(due, state, strict=True) if not np.array_equal(wanted, found)]
    negative = min(column.min(initial=0) for column in (free, cpu, memory)) < 0 or left.min(initial=0) < UNSHARED
    return faults + ["overfull"] * bool(negative)


@settings(max_examples=size(40, 200), deadline=None)
@given(SEEDS)
def test_rounds_gain_what_they_say_and_leave_cards_cpu_and_memory_as_they_should_be(seed: int) -> None:
    """Law: no card, CPU or memory is forgotten or given twice, in rounds that are kept and in those undone."""
    world = begun(tight_problem(seed))
    assert faults_of_state(world) == []
    if world.task.able.any():
        before = world.assignment.welfare()
        gained = searched(world, 60, seed)
        assert faults_of_state(world) == []
        assert world.assignment.welfare() - before == gained >= 0


def test_faults_of_the_state_are_found() -> None:
    """Planted bugs: a thousandth, some CPU and a card that nobody gave back."""
    for array, name in ((10, "cards"), (8, "cpu"), (9, "memory"), (4, "free")):
        world = begun(tight_problem(1))
        world.assignment.state[array][0] -= 1
        assert name in faults_of_state(world)


@settings(max_examples=size(40, 200), deadline=None)
@given(SEEDS)
def test_a_part_alone_costs_the_least_of_all_nodes_that_have_room(seed: int) -> None:
    """Law: m_i of a part is the least of its fraction of the ask over every node with a card for it, for bounds
    and for plans: one node keeps every limit on round trips."""
    problem = tight_problem(seed)
    prepared = prepare(problem)
    found, in_plans = (alone_at_asks(prepared, choices) for choices in (prepared.relaxed, prepared.placed))
    gangs, nodes, spare, needs = problem.gangs, problem.nodes, problem.spare, problem.gangs.needs
    assert spare is not None and needs is not None
    for gang in np.flatnonzero(needs.gpu_milli).tolist():
        ok = (problem.capacity > 0) | (spare.left >= needs.gpu_milli[gang]).any(axis=1)
        ok &= (spare.cpu_milli >= needs.cpu_milli[gang]) & (spare.memory_mib >= needs.memory_mib[gang])
        ok &= problem.model_sets[gangs.model_set[gang]][nodes.model]
        ok &= problem.site_sets[gangs.site_set[gang]][nodes.site]
        ok &= problem.supplier_sets[gangs.supplier_set[gang]][nodes.supplier]
        for have, want in ((nodes.tier, gangs.tier), (nodes.connectivity, gangs.connectivity)):
            ok &= have >= want[gang]
        ok &= (nodes.interconnect >= gangs.interconnect[gang]) & (nodes.reliability >= gangs.reliability[gang])
        ok &= (nodes.certifications & gangs.certifications[gang]) == gangs.certifications[gang]
        ok &= (nodes.fabric >= 0) | ~gangs.one_fabric[gang]
        asks = nodes.ask_micro_usd[ok] * (needs.gpu_milli[gang] / MILLI)
        assert found[gang] == in_plans[gang] == (asks.min() if asks.size else np.inf)
