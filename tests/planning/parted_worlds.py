"""A world of several GPU models and its plans: large enough to be searched in parts, small enough for a test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

import polars as pl

from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.domain.tables import PLACEMENTS_SCHEMA
from engine.planning.encode import encode
from engine.planning.inputs import Inputs
from solvers.planning.plan import Limits, Plan, Progress
from solvers.planning.problem import Problem
from solvers.planning.solve import solve
from solvers.planning.workers import Searchers
from tests.full_size import size

WORK = 3
SEED = 5


@cache
def parted_problem() -> Problem:
    return problem_of(size(10_000, 20_000), size(200, 400))


def problem_of(gpus: int, requests: int) -> Problem:
    """An idle synthetic fleet that is asked for 1.3 times what it has."""
    fleet = synthetic_fleet(gpus, SEED)
    queue = synthetic_requests(fleet, requests, SEED, load=1.3)
    placements = pl.DataFrame(schema=PLACEMENTS_SCHEMA)
    return encode(Inputs(fleet, queue, synthetic_rtt(fleet, SEED), placements, {}), 100_000, 7).problem


def plan_by(searchers: Searchers, on_pass: Callable[[int], None] | None = None) -> Plan:
    """The plan after WORK passes; `on_pass` is told the number of each pass before it begins."""
    begun = iter(range(WORK + 1))

    def listen(step: Progress) -> None:
        if on_pass is not None and step.phase in ("place", "improve"):
            on_pass(next(begun))

    return solve(parted_problem(), Limits(work=WORK, seed=SEED), listen, searchers)


def digest(plan: Plan) -> str:
    columns = (plan.request, plan.node, plan.gpus, plan.node_price)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()
