"""SciPy's HiGHS on the folded model."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.folded_model import FoldedModel
from benchmarks.peers.mip import solved_apart
from solvers.planning.moves import Placed
from solvers.planning.problem import Problem

RELATIVE_GAP = 1e-4


def highs(problem: Problem, limit_s: float) -> Placed:
    """What HiGHS finds in the time."""
    return solved_apart(problem, limit_s, _solve)


def _solve(model: FoldedModel, limit_s: float) -> Any:
    from scipy.optimize import Bounds, LinearConstraint, milp

    answer = milp(
        -model.objective,
        integrality=np.ones(model.most.size),
        bounds=Bounds(0.0, model.most),
        constraints=LinearConstraint(model.matrix, model.lower, model.upper),
        options={"time_limit": limit_s, "mip_rel_gap": RELATIVE_GAP},
    )
    return answer.x
