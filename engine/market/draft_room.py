"""What of a fleet nobody would use if some changes were made: a copy to try them on."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from engine.market.inventory import Inventory
from engine.market.use import Use

Int = NDArray[np.int64]


class DraftRoom:
    """`unused` (nodes,): whole GPUs. `inventory`: the fleet, with CPU, memory and cards as they are in the
    draft.
    """

    def __init__(self, inventory: Inventory) -> None:
        self.unused: Int = inventory.unused.copy()
        self.inventory, self._is_own = inventory, False

    def take(self, use: Use) -> None:
        """Take what a placement uses."""
        self._change(use, 1)

    def give(self, use: Use) -> None:
        """Give it back."""
        self._change(use, -1)

    def has_room(self, use: Use) -> NDArray[np.bool_]:
        """Which of its nodes have unused what a placement takes there, (nodes,)."""
        room: NDArray[np.bool_] = self.unused[use.nodes] >= use.gpus
        if use.is_plain:
            return room
        spare = self.inventory.spare
        if use.gpu_milli:
            left = spare.cards.of(int(use.nodes[0])).get(use.card)
            room = room if left is None else np.array([left >= use.gpu_milli])
        room = room & (spare.cpu_milli[use.nodes] >= use.cpu_milli * use.replicas)
        return room & (spare.memory_mib[use.nodes] >= use.memory_mib * use.replicas)

    def _change(self, use: Use, sign: int) -> None:
        gpus = sign * use.gpus
        if not use.is_plain:
            if not self._is_own:
                self.inventory, self._is_own = copy.copy(self.inventory), True
                self.inventory.spare = copy.deepcopy(self.inventory.spare)
            spare = self.inventory.spare
            spare.cpu_milli[use.nodes] -= sign * use.cpu_milli * use.replicas
            spare.memory_mib[use.nodes] -= sign * use.memory_mib * use.replicas
            if use.gpu_milli:
                move = spare.cards.take if sign > 0 else spare.cards.give
                gpus = gpus * move(int(use.nodes[0]), use.card, use.gpu_milli)
        self.unused[use.nodes] -= gpus
