"""Which gangs are solved exactly, together, and what the bound of their integer programs is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.planning.exact import components, nodes_of_gangs
from solvers.planning.plan import Limits
from solvers.planning.prepare import prepare
from solvers.planning.solve import solve
from tests.full_size import size
from tests.planning.parted_worlds import problem_of
from tests.solvers.planning.small_problems import small_problem, suits

MODELS = 5


@given(st.lists(st.tuples(st.sets(st.integers(0, MODELS - 1)), st.booleans(), st.integers(0, 9)), max_size=12))
def test_gangs_are_together_if_models_tie_them(drawn: list[tuple[set[int], bool, int]]) -> None:
    """Law: the classes of "shares a model with", over gangs that can be served; no gang is lost or twice there."""
    models = np.zeros((len(drawn), MODELS), dtype=bool)
    for gang, (mine, _, _) in enumerate(drawn):
        models[gang, sorted(mine)] = True
    able = np.array([each for _, each, _ in drawn], dtype=bool)
    nodes = np.array([each for *_, each in drawn], dtype=np.int64)
    tied = (models.astype(int) @ models.T.astype(int) > 0) & able[:, None] & able
    for _ in drawn:
        tied |= tied.astype(int) @ tied.astype(int) > 0
    expected = {tuple(np.flatnonzero(row).tolist()) for row in tied if row.any()}
    found = components(models, able, nodes)
    assert sorted(tuple(part.gangs.tolist()) for part in found) == sorted(expected)
    assert all(part.pairs == nodes[part.gangs].sum() for part in found)


@pytest.mark.parametrize("seed", range(size(40, 400)))
def test_the_nodes_of_a_gang_are_those_that_suit_it(seed: int) -> None:
    """Law: as many as hold one replica and meet all that is asked of a node alone."""
    problem = small_problem(seed, nodes=9, gangs=5, runs_percent=0)
    gangs, fabric = problem.gangs, problem.nodes.fabric
    expected = [
        sum(
            suits(problem, gang, node)
            and problem.capacity[node] >= gangs.gpus_per_replica[gang]
            and (fabric[node] >= 0 or not gangs.one_fabric[gang])
            for node in range(9)
        )
        for gang in range(5)
    ]
    assert nodes_of_gangs(prepare(problem)).tolist() == expected


def test_a_queue_of_hundred_gangs_has_a_bound_much_nearer_than_prices_prove() -> None:
    """Law: no plan is worth more than the stronger bound, and the one found is worth no more than D."""
    problem = problem_of(gpus=8_000, requests=100)
    plan, longer = (solve(problem, Limits(work=passes, seed=3)) for passes in (4, 9))
    for each in (plan, longer):
        assert each.stronger is not None and each.stronger.method == "CP-SAT"
        assert max(plan.welfare, longer.welfare) <= each.stronger.micro_usd_per_hour < each.bound
        assert each.stronger.micro_usd_per_hour - each.welfare < (each.bound - each.welfare) / 2
