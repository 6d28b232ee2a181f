"""Rounds of ruin and recreate, who they evict, and the choices they look at, on small problems from seeds."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning import shortlist as shortlists
from solvers.planning.assignment import Assignment
from solvers.planning.cheapest import cheapest
from solvers.planning.choices import C_FIRST, C_LAST
from solvers.planning.dual import alone_at_asks, cheapest_alone
from solvers.planning.evictions import in_a_choice
from solvers.planning.first_plan import first_plan
from solvers.planning.parts import reach_of
from solvers.planning.passes import lasting, task_of
from solvers.planning.places import NOT_KEPT, blocks
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import NO_SHARE, Problem
from solvers.planning.relaxed_market import Market, guide, price
from solvers.planning.search import improve
from solvers.planning.shortlist import shortlist
from solvers.planning.workers import Task, constants_of, refused_by_model
from tests.solvers.planning.small_problems import small_problem

SEEDS = range(30)


class Begun(NamedTuple):
    """A problem with its first plan."""

    prepared: Prepared
    market: Market
    task: Task
    assignment: Assignment


def begun(seed: int, runs_percent: int = 0) -> Begun:
    problem: Problem = small_problem(seed, nodes=10, gangs=14, runs_percent=runs_percent)
    prepared = prepare(problem)
    market = price(prepared)
    return Begun(
        prepared,
        market,
        task_of(prepared, market, alone_at_asks(prepared, prepared.placed), reach_of(prepared, prepared.placed)),
        first_plan(prepared, market),
    )


def searched(world: Begun, rounds: int, seed: int) -> int:
    """The welfare that so many rounds say they gained."""
    prepared, market, task, assignment = world
    constants, owner = constants_of(task), np.where(task.able, 0, -1)
    seeds = np.random.default_rng(seed).choice(np.flatnonzero(task.able), rounds)
    follow = lasting(guide(prepared, market.row_price), task)
    empty = (*follow.walk[:3], *blocks(follow.walk[0].size), *follow.walk[5:])
    return improve(
        seeds, refused_by_model(constants.reach, owner, 0), constants.gangs, constants.shapes, constants.supply,
        follow.walk, follow.price, constants.ask, constants.room, empty, constants.value, constants.weight,
        assignment.state, prepared.work(), np.array([seed + 1], dtype=np.uint64), owner, 0,
    )  # fmt: skip


def faults_of_state(world: Begun) -> list[str]:
    """Slots whose free GPUs or hosts are not what the placements leave there."""
    prepared, _, _, assignment = world
    gang, slot, take = assignment.entries()
    gpus = take * prepared.problem.gangs.gpus_per_replica[gang]
    used = np.bincount(slot, gpus, prepared.ask.size).astype(np.int64)
    hosted = np.bincount(slot, minlength=prepared.ask.size)
    faults = [f"free on {at}" for at in np.flatnonzero(assignment.free != prepared.capacity - used)]
    return faults + [f"hosts of {at}" for at in np.flatnonzero(assignment.state[7] != hosted)]


@pytest.mark.parametrize("runs_percent", [0, 60])
def test_rounds_gain_what_they_say_and_undo_all_that_they_do_not_keep(runs_percent: int) -> None:
    """Law: the welfare of the plan rises by the gain reported, whatever was tried and given up in between."""
    gains = []
    for seed in SEEDS:
        world = begun(seed, runs_percent)
        if not world.task.able.any():
            continue
        before, bonus = world.assignment.welfare(), world.task.value - world.prepared.value
        served = bonus[world.assignment.placed].sum()
        gained = searched(world, 40, seed) + served - bonus[world.assignment.placed].sum()
        assert faults_of_state(world) == []
        assert world.assignment.welfare() - before == gained >= 0
        gains.append(gained)
    assert max(gains) > 0


def test_a_fault_of_the_state_is_found() -> None:
    """A planted bug: a GPU that nobody gave back."""
    world = begun(0)
    world.assignment.free[0] -= 1
    assert faults_of_state(world) == ["free on 0"]


def test_whoever_is_evicted_from_a_choice_leaves_room_for_the_gang() -> None:
    """Law: without those who are listed, a gang that was refused finds a place; nobody else is marked."""
    evicting = 0
    for seed in SEEDS:
        world = begun(seed)
        refused = np.flatnonzero(world.task.able & ~world.assignment.placed)
        free_of_share = world.prepared.problem.gangs.max_gpus_per_supplier == NO_SHARE
        for gang in refused[free_of_share[refused]].tolist():
            evicting += all_evictions_leave_room(world, gang)
    assert evicting > 10


def all_evictions_leave_room(world: Begun, gang: int) -> int:
    """How many choices of a refused gang others would have to leave for it."""
    prepared, _, task, assignment = world
    constants, evicting = constants_of(task), 0
    asks = prepared.ask.astype(float)
    walk, gangs = prepared.walk(asks), prepared.problem.gangs.replicas.size
    shape = prepared.shapes.of_gang[gang]
    for choice in range(*task.choices.first[shape : shape + 2]):
        marked, removed = np.zeros(gangs, dtype=np.bool_), np.empty(100, dtype=np.int64)
        count = in_a_choice(
            gang, choice, removed, (np.where(task.able, 0, -1), 0, marked), constants.gangs, constants.shapes,
            constants.supply, walk, asks, prepared.ask, constants.value, constants.weight, assignment.state,
            survey_of(prepared.ask.size, gangs), np.array([7], dtype=np.uint64),
        )  # fmt: skip
        assert marked.sum() == max(count, 0)
        if count > 0:
            assert marked[removed[:count]].all() and assignment.placed[removed[:count]].all()
            assert fits_without(world, removed[:count], gang)
            evicting += 1
    return evicting


def survey_of(slots: int, gangs: int) -> Arrays:
    """Fresh scratch of `in_a_choice`."""
    stamps, stamp, seen, here = (np.zeros(size, dtype=np.int64) for size in (slots, 1, gangs, gangs))
    return stamps, stamp, seen, here, np.zeros(gangs)


def fits_without(world: Begun, gone: NDArray[np.int64], gang: int) -> bool:
    prepared, _, _, assignment = world
    free = assignment.free.copy()
    who, slot, take = assignment.entries()
    mine = np.isin(who, gone)
    np.add.at(free, slot[mine], (take * prepared.problem.gangs.gpus_per_replica[who])[mine])
    asks = prepared.ask.astype(float)
    room = free, *prepared.room[1:]
    arguments = prepared.supply, prepared.walk(asks), room, asks, np.inf, prepared.work()
    return bool(cheapest(gang, prepared.gangs, prepared.shape_arrays(prepared.placed), *arguments)[2] >= 0)


def test_a_short_list_leaves_out_choices_of_long_ones_only_and_never_the_cheapest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Law: with few choices nothing is left out; else every gang worth its price keeps its cheapest placement."""
    shortened = 0
    for seed in SEEDS:
        prepared, market, _, _ = begun(seed)
        assert np.array_equal(shortlist(prepared, market).table, prepared.placed.table)
        with monkeypatch.context() as patch:
            patch.setattr(shortlists, "MANY", 1)
            patch.setattr(shortlists, "MANY_ALONE", 1)
            short = shortlist(prepared, market)
        shortened += short.table.shape[0] < prepared.placed.table.shape[0]
        walk, at = market.dual.walk, market.dual.price
        best = cheapest_alone(prepared, prepared.placed, walk, at)
        bidding = best < prepared.value
        assert np.allclose(cheapest_alone(prepared, short, walk, at)[bidding], best[bidding])
    assert shortened > 3


def test_a_short_list_is_that_of_all_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: pricing stops early where a choice cannot be listed any more; the list is that of all costs."""
    monkeypatch.setattr(shortlists, "MANY", 2)
    monkeypatch.setattr(shortlists, "MANY_ALONE", 3)
    left_out = 0
    for seed in SEEDS:
        prepared, market, _, _ = begun(seed)
        short, choices = shortlist(prepared, market), prepared.placed
        for shape, (begin, end) in enumerate(pairwise(choices.first.tolist())):
            gangs = np.flatnonzero(prepared.shapes.of_gang == shape)
            gang = gangs[np.argsort(prepared.value[gangs], kind="stable")[-1]]
            cost = np.array([cost_in(prepared, market, gang, choice) for choice in range(begin, end)])
            rank = np.empty(cost.size, dtype=int)
            rank[np.argsort(cost, kind="stable")] = np.arange(cost.size)
            alone = np.diff(choices.table[begin:end, [C_FIRST, C_LAST]])[:, 0] == 1
            kept = np.isfinite(cost) & (rank < np.where(alone, 3, 2))
            expected = choices.table[begin:end][kept if cost.size > 2 else np.ones_like(kept)]
            assert np.array_equal(short.table[short.first[shape] : short.first[shape + 1]], expected)
            left_out += cost.size - len(expected)
    assert left_out > 20


def cost_in(prepared: Prepared, market: Market, gang: int, choice: int) -> float:
    """What a gang pays in one choice at market prices; inf if far too much."""
    shape, (first, *others) = prepared.shapes.of_gang[gang], prepared.shape_arrays(prepared.placed)
    first = first.copy()
    first[shape], first[shape + 1] = choice, choice + 1
    walk = *market.dual.walk[:3], *blocks(market.dual.walk[0].size), *NOT_KEPT
    most = shortlists.DEAREST * prepared.value[gang]
    given = prepared.gangs, (first, *others), prepared.supply, walk, prepared.room, market.dual.price, most
    return float(cheapest(gang, *given, prepared.work())[0])
