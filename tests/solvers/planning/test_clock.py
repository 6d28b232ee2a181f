"""A run says that the clock ended it if time was over when anything asked; its plan is sound whatever was cut."""

from __future__ import annotations

from functools import cache

import pytest

from solvers.planning.moves import Placed, order
from solvers.planning.plan import Limits, Plan
from solvers.planning.problem import Problem
from solvers.planning.solve import solve
from tests.full_size import size
from tests.planning.parted_worlds import digest, problem_of
from tests.planning.striking_clock import StrikingClock

LIMIT_S = 3_600.0
NEVER = 10**9


@cache
def problem() -> Problem:
    return problem_of(gpus=2_000, requests=60)


def ended_at(look: int) -> tuple[Plan, StrikingClock]:
    """The plan of a run for which time is over after so many looks at the clock."""
    clock = StrikingClock(look)
    return solve(problem(), Limits(time_s=LIMIT_S, seed=1), clock=clock), clock


@cache
def whole() -> tuple[Plan, StrikingClock]:
    return ended_at(NEVER)


def test_a_run_with_time_enough_is_the_run_without_a_limit() -> None:
    plan, clock = whole()
    assert not plan.ended_by_clock and {"place", "improve", "repair"} <= {step.phase for step in plan.history}
    assert digest(plan) == digest(solve(problem(), Limits(seed=1))) and clock.looks > 30


@pytest.mark.parametrize("tenth", range(0, 11, size(2, 1)))
def test_what_the_clock_cut_says_so_and_what_it_did_not_is_the_whole_plan(tenth: int) -> None:
    """Law: FEASIBLE means that the time limit changed nothing; each plan is whole, ordered and below its bound."""
    best, clock = whole()
    plan, _ = ended_at(clock.looks * tenth // 10)
    assert plan.ended_by_clock or digest(plan) == digest(best)
    assert 0 < plan.welfare <= best.welfare and plan.welfare <= plan.bound == best.bound
    assert plan.refusals is not None
    assert not order(problem(), Placed(plan.request, plan.node, plan.gpus)).blocked.size


def test_the_clock_is_told_of_wherever_it_struck() -> None:
    """The last question is asked by the last proof: one look before it is in time, or not, and that decides."""
    _, clock = whole()
    last = next(look for look in range(clock.looks, 0, -1) if ended_at(look)[0].ended_by_clock)
    phases = [step.phase for step in ended_at(last)[0].history]
    assert phases[-4:] == ["repair", "prove", "explain", "done"]
    assert last < clock.looks
