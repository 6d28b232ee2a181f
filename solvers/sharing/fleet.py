"""Shapes of pods, nodes with cards, and what is left of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

CARD_MILLI = 1_000
NOWHERE = -1
"""Node of a pod that fits nowhere."""
WHOLE = -1
"""Card of a pod that takes whole cards, or none."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """Kinds of pods, columns (K,). `gpu_milli` is per GPU: below 1,000 only if `gpus` is 1, and 0 if that is 0."""

    cpu_milli: Int
    memory_mib: Int
    gpus: Int
    gpu_milli: Int
    models: Bool
    """(K, models): which GPU models are accepted. Pods without a GPU run anywhere."""

    def gpu_milli_each(self) -> Int:
        """GPU milli that one pod takes in all (K,)."""
        return self.gpus * self.gpu_milli

    def arrays(self) -> Arrays:
        """(cpu, memory, gpus, gpu_milli, models) as kernels take them."""
        return self.cpu_milli, self.memory_mib, self.gpus, self.gpu_milli, self.models


@dataclass(frozen=True, slots=True)
class Machines:
    """Empty nodes, columns (N,). Ties between nodes go to the one that stands first."""

    model: Int
    gpus: Int
    cpu_milli: Int
    memory_mib: Int


class SharedFleet:
    """What is left of every node. Whoever takes must have asked whether it fits."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.cpu_left = machines.cpu_milli.copy()
        self.memory_left = machines.memory_mib.copy()
        cards = np.arange(max(int(machines.gpus.max(initial=0)), 1))
        self.card_left: Int = np.where(cards < machines.gpus[:, None], CARD_MILLI, 0)
        """(N, most cards of a node) milli; columns beyond a node's cards stay 0."""
        self.untouched = np.ones(machines.gpus.size, dtype=bool)
        columns = np.stack((machines.model, machines.gpus, machines.cpu_milli, machines.memory_mib), axis=1)
        self.kind: Int = np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        """Untouched nodes of one kind are equal: only the first need be looked at."""
        self.alike: Int = np.ones(machines.gpus.size, dtype=np.int64)
        """(N,) how many nodes each row stands for; more than one only where nothing is placed."""

    def arrays(self) -> Arrays:
        """(cpu left, memory left, card left, cards, model, untouched, kind, alike) as kernels take them."""
        machines = self.machines
        left = self.cpu_left, self.memory_left, self.card_left
        return *left, machines.gpus, machines.model, self.untouched, self.kind, self.alike

    def take(self, shapes: Shapes, shape: int, node: int, card: int) -> int:
        """Place one pod; the cards it got, as bits. A part goes to `card`, whole GPUs to the first free cards."""
        self.cpu_left[node] -= shapes.cpu_milli[shape]
        self.memory_left[node] -= shapes.memory_mib[shape]
        self.untouched[node] = False
        left, bits, wanted = self.card_left[node], 0, int(shapes.gpus[shape])
        if card != WHOLE:
            left[card] -= shapes.gpu_milli[shape]
            return 1 << card
        for place, milli in enumerate(left.tolist()):
            if wanted and milli == CARD_MILLI:
                left[place], bits, wanted = 0, bits | 1 << place, wanted - 1
        return bits


@kernel
def fits(shapes: Arrays, fleet: Arrays, shape: int, node: int) -> bool:
    """Whether one more pod of this shape has room on this node, on a model that it accepts."""
    cpu, memory, gpus, gpu_milli, models = shapes
    cpu_left, memory_left, card_left, cards, model = fleet[:5]
    if cpu_left[node] < cpu[shape] or memory_left[node] < memory[shape]:
        return False
    if gpus[shape] == 0:
        return True
    if not models[shape, model[node]]:
        return False
    room = 0
    for card in range(cards[node]):
        room += card_left[node, card] >= gpu_milli[shape]
    return bool(room >= gpus[shape])


@kernel
def repeats(card_left: Int, node: int, card: int) -> bool:
    """Whether an earlier card of the node has just as much left: then this one need not be tried."""
    for earlier in range(card):  # noqa: SIM110 — numba compiles no generator
        if card_left[node, earlier] == card_left[node, card]:
            return True
    return False
