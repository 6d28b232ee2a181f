"""The online scheduler: counts what arrives, clears the market now and then, places where the cost is least."""

from __future__ import annotations

import numpy as np

from solvers.kernel import Arrays
from solvers.sharing.choice import least_cost_place
from solvers.sharing.clearing import clear
from solvers.sharing.fleet import CARD_MILLI, Shapes, SharedFleet
from solvers.sharing.values import Float, empty_tables, value_node

CLEARING_EVERY = 100
"""Pods between two clearings; the first ones come at 1, 2, 4, 8, ... pods, while little is known."""
STEPS, FIRST_STEPS = 10, 50
CPU_POINTS = (0.0, 0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0, 16.0)
MEMORY_POINTS = (0.0, 0.125, 0.25, 0.5)
"""Grid of prices, as multiples of the price at which a fleet's CPU (memory) alone would be worth all its GPUs."""


class SharingScheduler:
    """Places pods on a fleet that it alone changes, by `took`."""

    def __init__(self, shapes: Shapes, fleet: SharedFleet) -> None:
        self._shapes, self._fleet = _alike_as_one(shapes, fleet)
        self._arrived = np.zeros(shapes.gpus.size)
        self._pods, self._next_clearing = 0, 1
        self._grid = _grid(fleet)
        points, nodes = self._grid[0].size, fleet.machines.gpus.size
        self._tables = empty_tables(self._shapes[-1].shape[1], fleet.card_left.shape[1], points)
        fills = np.ones(shapes.gpus.size)
        vectors = np.zeros((nodes, points))
        self._kept = fills, np.zeros(shapes.gpus.size), vectors, np.zeros(nodes, dtype=np.int64), np.zeros(nodes)

    @property
    def bids(self) -> Float:
        """w (K,): what one slot of each shape is worth now, in milli of a GPU; 0 for what never came."""
        bids: Float = self._kept[1].copy()
        return bids

    def choose(self, shape: int) -> tuple[int, int]:
        """Count the arrival; (node, card) of least opportunity cost, NOWHERE if the pod fits on no node."""
        self._arrived[shape] += 1.0
        self._pods += 1
        if self._pods >= self._next_clearing:
            self._clear()
        card, group = self._tables[0], self._tables[1]
        node, place, _ = least_cost_place(self._shapes, self._fleet, self._grid, card, group, self._kept, shape)
        return node, place

    def took(self, node: int) -> None:
        """Value a node anew after a pod was placed on it."""
        card, group = self._tables[0], self._tables[1]
        _, _, vectors, free, value = self._kept
        free[node] = value_node(self._fleet, node, self._grid, card, group, vectors[node])
        value[node] = vectors[node].min()

    def _clear(self) -> None:
        first = self._pods <= CLEARING_EVERY
        self._next_clearing = self._pods + min(self._pods, CLEARING_EVERY)
        steps = FIRST_STEPS if first else STEPS
        clear(self._shapes, self._fleet, self._arrived, self._grid, self._tables, self._kept, steps)


def _alike_as_one(shapes: Shapes, fleet: SharedFleet) -> tuple[Arrays, Arrays]:
    """Both as kernels take them, with models that every shape accepts alike counted as one: fewer tables."""
    models, code = np.unique(shapes.models, axis=1, return_inverse=True)
    cpu_left, memory_left, card_left, cards, model, untouched, kind = fleet.arrays()
    one = code.reshape(-1).astype(np.int64)[model]
    accepted = np.ascontiguousarray(models)
    return (*shapes.arrays()[:4], accepted), (cpu_left, memory_left, card_left, cards, one, untouched, kind)


def _grid(fleet: SharedFleet) -> Arrays:
    """(α per milli-CPU, β per MiB), every pair of points (Q,)."""
    machines = fleet.machines
    milli = float(machines.gpus.sum()) * CARD_MILLI
    cpu = milli / max(float(machines.cpu_milli.sum()), 1.0)
    memory = milli / max(float(machines.memory_mib.sum()), 1.0)
    pairs = np.array([(cpu * a, memory * b) for b in MEMORY_POINTS for a in CPU_POINTS])
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
