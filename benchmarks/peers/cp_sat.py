"""OR-Tools' CP-SAT on the folded model."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.folded_model import FoldedModel
from benchmarks.peers.mip import solved_apart
from solvers.planning.moves import Placed
from solvers.planning.problem import Problem

WORKERS = 2


def cp_sat(problem: Problem, limit_s: float) -> Placed:
    """What CP-SAT finds in the time."""
    return solved_apart(problem, limit_s, _solve)


def _solve(model: FoldedModel, limit_s: float) -> Any:
    from ortools.linear_solver.python import model_builder_helper as builder

    program = builder.ModelBuilderHelper()
    program.fill_model_from_sparse_data(
        model.most * 0, model.most, model.objective, model.lower, model.upper, model.matrix
    )
    for variable in range(model.most.size):
        program.set_var_integrality(variable, True)
    program.set_maximize(True)
    solver = builder.ModelSolverHelper("sat")
    solver.set_time_limit_in_seconds(limit_s)
    solver.set_solver_specific_parameters(f"num_workers:{WORKERS}")
    solver.solve(program)
    return solver.variable_values() if solver.has_solution() else None
