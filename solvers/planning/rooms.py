"""What every node has left while gangs leave and enter: GPUs, and CPU, memory and cards where gangs need them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.planning.problem import MILLI, Problem

if TYPE_CHECKING:
    from solvers.planning.moves import Placements

Int = NDArray[np.int64]


class Rooms:
    """What is left of the capacity of each node; below 0 where more was taken. Mutated.

    A part stands on one card now and on another one in the plan: `now` says which is meant.
    """

    def __init__(self, problem: Problem, plan: Placements) -> None:
        """All of the capacity is left at first."""
        self.gpus: list[int] = problem.capacity.tolist()
        self._needs, self._spare = problem.gangs.needs, problem.spare
        if self._needs is None or self._spare is None:
            return
        self._size = problem.gangs.gpus_per_replica
        self._cpu: list[int] = self._spare.cpu_milli.tolist()
        self._memory: list[int] = self._spare.memory_mib.tolist()
        shared = np.argwhere(self._spare.left >= 0).tolist()
        self._taken = Counter({(node, card): MILLI - int(self._spare.left[node, card]) for node, card in shared})
        self._card = {
            True: _cards(problem.running.request, problem.running.card),
            False: _cards(plan.request, plan.card),
        }

    def lacks(self, gang: int, node: int, gpus: int) -> bool:
        """Whether a node has too little for what a gang of the plan enters it with."""
        if self._needs is None:
            return self.gpus[node] < gpus
        self.take(gang, node, gpus)
        lacks = self.is_overfull(node)
        self.give(gang, node, gpus)
        return lacks

    def is_overfull(self, node: int) -> bool:
        """Whether more was taken of a node than there is."""
        if self._needs is None or self._spare is None:
            return self.gpus[node] < 0
        cards = range(self._spare.left.shape[1])
        short = self.gpus[node] < 0 or self._cpu[node] < 0 or self._memory[node] < 0
        return short or any(self._taken[node, card] > MILLI for card in cards)

    def take(self, gang: int, node: int, gpus: int, *, now: bool = False) -> None:
        """Take what GPUs of a gang use on a node."""
        if self._needs is None:
            self.gpus[node] -= gpus
        else:
            self._change(gang, node, gpus, 1, now)

    def give(self, gang: int, node: int, gpus: int, *, now: bool = False) -> None:
        """Give it back."""
        if self._needs is None:
            self.gpus[node] += gpus
        else:
            self._change(gang, node, gpus, -1, now)

    def _change(self, gang: int, node: int, gpus: int, sign: int, now: bool) -> None:
        assert self._needs is not None
        replicas = sign * (gpus // int(self._size[gang]))
        self._cpu[node] -= replicas * int(self._needs.cpu_milli[gang])
        self._memory[node] -= replicas * int(self._needs.memory_mib[gang])
        milli = int(self._needs.gpu_milli[gang])
        if not milli:
            self.gpus[node] -= sign * gpus
            return
        cell = node, self._card[now][gang]
        was_whole = self._taken[cell] == 0
        self._taken[cell] += sign * milli
        self.gpus[node] += (self._taken[cell] == 0) - was_whole


def _cards(gang: Int, card: Int | None) -> dict[int, int]:
    """The card of each part, by gang."""
    return {} if card is None else {g: c for g, c in zip(gang.tolist(), card.tolist(), strict=True) if c >= 0}
