"""Running a general solver on the folded model in a process of its own, which ends when the time is up."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.peers.folded_model import FoldedModel, folded_model
from solvers.planning.moves import Placed
from solvers.planning.problem import Problem

SolveModel = Callable[[FoldedModel, float], Any]
"""(model, seconds) to the values of all variables, or None if none were found."""

BUILD_LIMIT_S = 120.0
GRACE_S = 15.0
"""Solvers look at the clock now and then only, and the way back to nodes takes a second or two."""


def solved_apart(problem: Problem, limit_s: float, solve: SolveModel) -> Placed:
    """The plan found within the limit, for which building the model does not count; an empty one if there is none.

    Needs SciPy (extra `dev`). A solver that dies, or overruns its limit by GRACE_S, counts as having no plan;
    stderr says which, since it may have held one that it never handed over.
    """
    import scipy.sparse  # noqa: F401  (missing it must be heard here, not in the child)

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, problem, limit_s, solve), daemon=True)
    process.start()
    theirs.close()
    try:
        built = ours.poll(BUILD_LIMIT_S) and ours.recv()
        if built and ours.poll(limit_s + GRACE_S):
            return Placed(*ours.recv())
        what = "no answer by the limit" if built else "model not built in time"
        print(f"{solve.__module__}: stopped, {what}", file=sys.stderr)
    except EOFError:
        print(f"{solve.__module__}: ended without an answer", file=sys.stderr)
    finally:
        process.kill()
        process.join()
        ours.close()
    return _nothing()


def _answer(pipe: Connection, problem: Problem, limit_s: float, solve: SolveModel) -> None:
    model = folded_model(problem)
    pipe.send(True)
    solution = solve(model, limit_s)
    pipe.send(tuple(_nothing() if solution is None else model.placed(np.asarray(solution))))


def _nothing() -> Placed:
    return Placed(*(np.empty(0, dtype=np.int64) for _ in range(3)))
