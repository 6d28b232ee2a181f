"""What no placement of a plan can hold, and would fit if nothing were leased or held outside the plan."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from engine.market.inventory import READY, Inventory
from engine.planning.snapshot import Queue, Snapshot
from solvers.planning.problem import UNSHARED, Gangs, Needs, Problem, Running, Spare

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


def fit_without_leases(snapshot: Snapshot, queue: Queue, gangs: Int) -> Flags:
    """Which of some new requests have a placement on the READY nodes if no lease and no held quote stands there.

    True is proven by a placement. False proves nothing of a request that limits the RTT between its nodes: of the
    close sites the planner knows only those that plans are made of.
    """
    if not gangs.size:
        return np.zeros(0, dtype=bool)
    # Imported here: the compiled kernels behind them are not loaded before somebody plans.
    from solvers.planning.dual import alone_at_asks
    from solvers.planning.prepare import prepare

    prepared = prepare(_unleased(snapshot.inventory, queue.problem, gangs))
    return np.isfinite(alone_at_asks(prepared, prepared.placed))


def _unleased(inventory: Inventory, problem: Problem, gangs: Int) -> Problem:
    """The problem of some gangs on nodes that have all but what is used outside the engine."""
    mine, nothing = _only(problem.gangs, gangs), np.empty(0, dtype=np.int64)
    models = np.logical_or.reduce(problem.model_sets[mine.model_set], axis=0)
    usable = (inventory.state == READY) & models[problem.nodes.model]
    spare = None
    if mine.needs is not None:
        cards = np.arange(int(inventory.nodes.gpu_count.max(initial=1)))
        left = np.where(cards < inventory.nodes.gpu_count[:, None], UNSHARED, 0)
        spare = Spare(inventory.cpu_milli, inventory.memory_mib, left)
    return replace(
        problem,
        capacity=np.where(usable, inventory.nodes.gpu_count - inventory.outside, 0),
        gangs=mine,
        running=Running(nothing, nothing, nothing, nothing.astype(bool), None if spare is None else nothing),
        spare=spare,
    )


def _only(gangs: Gangs, chosen: Int) -> Gangs:
    """The rows of some gangs."""
    columns = {field.name: getattr(gangs, field.name) for field in fields(Gangs) if field.name != "needs"}
    needs = gangs.needs
    if needs is not None:
        needs = Needs(needs.cpu_milli[chosen], needs.memory_mib[chosen], needs.gpu_milli[chosen])
    return Gangs(**{name: column[chosen] for name, column in columns.items()}, needs=needs)
