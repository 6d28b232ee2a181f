"""The online scheduler: counts what arrives, clears the market now and then, places where the cost is least."""

from __future__ import annotations

import numpy as np

from solvers.kernel import Arrays
from solvers.sharing.choice import least_cost_place
from solvers.sharing.clearing import clear, empty_market
from solvers.sharing.fleet import CARD_MILLI, Int, Shapes, SharedFleet
from solvers.sharing.tables import Float
from solvers.sharing.values import empty_values, value_all, value_node

CLEARING_EVERY = 100
"""Pods between two clearings; the first ones come at 1, 2, 4, 8, ... pods, while little is known."""
STEPS, FIRST_STEPS = 10, 50
CPU_POINTS = (0.0, 0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0, 16.0)
MEMORY_POINTS = (0.0, 0.125, 0.25, 0.5)
"""Grid of prices, as multiples of the price at which a fleet's CPU (memory) alone would be worth all its GPUs."""


class SharingScheduler:
    """Places pods on a fleet that it alone changes, by `took`."""

    def __init__(self, shapes: Shapes, fleet: SharedFleet) -> None:
        self._shapes, self._fleet, _ = alike_as_one(shapes, fleet)
        self._arrived = np.zeros(shapes.gpus.size)
        self._pays = shapes.gpu_milli_each().astype(np.float64)
        self._pods, self._next_clearing = 0, 1
        self._grid = _grid(fleet)
        points, nodes = self._grid[0].size, fleet.machines.gpus.size
        self._market = empty_market(self._shapes[-1].shape[1], fleet.card_left.shape[1], points)
        self._card, self._group = self._market[0][:2]
        self._filled, self._bid = np.ones(shapes.gpus.size), np.zeros(shapes.gpus.size)
        self._valued = empty_values(nodes, points)

    @property
    def bids(self) -> Float:
        """w (K,): what one slot of each shape is worth now, in milli of a GPU; 0 for what never came."""
        bids: Float = self._bid.copy()
        return bids

    def choose(self, shape: int) -> tuple[int, int]:
        """Count the arrival; (node, card) of least opportunity cost, NOWHERE if the pod fits on no node."""
        self._arrived[shape] += 1.0
        self._pods += 1
        if self._pods >= self._next_clearing:
            self._clear()
        shapes, fleet, valued = self._shapes, self._fleet, self._valued
        node, place, _ = least_cost_place(shapes, fleet, self._grid, self._card, self._group, valued, shape)
        return node, place

    def took(self, node: int) -> None:
        """Value a node anew after a pod was placed on it."""
        value_node(self._fleet, node, self._grid, self._card, self._group, self._valued)

    def _clear(self) -> None:
        first = self._pods <= CLEARING_EVERY
        self._next_clearing = self._pods + min(self._pods, CLEARING_EVERY)
        steps = FIRST_STEPS if first else STEPS
        shapes, fleet, grid, money = self._shapes, self._fleet, self._grid, (self._arrived, self._pays)
        clear(shapes, fleet, *money, grid, self._market, self._filled, self._bid, steps)
        value_all(fleet, grid, self._card, self._group, self._valued)


def alike_as_one(shapes: Shapes, fleet: SharedFleet) -> tuple[Arrays, Arrays, Int]:
    """Both as kernels take them, with models that every shape accepts alike counted as one: fewer tables.

    And the number that each model counts as, (models,).
    """
    models, code = np.unique(shapes.models, axis=1, return_inverse=True)
    arrays, one = fleet.arrays(), code.reshape(-1).astype(np.int64)
    accepted = np.ascontiguousarray(models)
    return (*shapes.arrays()[:4], accepted), (*arrays[:4], one[fleet.machines.model], *arrays[5:]), one


def grid_of(cpu: float, memory: float) -> tuple[Float, Float]:
    """(α per milli-CPU, β per MiB), every pair of points (Q,), around what a unit would be worth alone."""
    pairs = np.array(
        [(cpu * a, memory * b) for b in _points(MEMORY_POINTS, memory) for a in _points(CPU_POINTS, cpu)]
    )
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def _points(points: tuple[float, ...], worth: float) -> tuple[float, ...]:
    return points if worth > 0.0 else (0.0,)


def _grid(fleet: SharedFleet) -> Arrays:
    machines = fleet.machines
    milli = float(machines.gpus.sum()) * CARD_MILLI
    return grid_of(*(milli / max(float(there.sum()), 1.0) for there in (machines.cpu_milli, machines.memory_mib)))
