"""What of a fleet nobody would use if some changes were made: a copy to try them on."""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray

from engine.market.inventory import Inventory
from engine.market.use import Use

Int = NDArray[np.int64]


class DraftRoom:
    """`inventory`: the fleet, with GPUs, CPU, memory and cards as they are in the draft; pools are not changed."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory, self._own_spare = copy(inventory), False
        self.inventory.unused = inventory.unused.copy()

    @property
    def unused(self) -> Int:
        """Whole GPUs, (nodes,)."""
        return self.inventory.unused

    def take(self, use: Use) -> None:
        """Take what a placement uses."""
        self._change(use, 1)

    def give(self, use: Use) -> None:
        """Give it back."""
        self._change(use, -1)

    def has_room(self, use: Use) -> NDArray[np.bool_]:
        """Which of its nodes have unused what a placement takes there, (nodes,)."""
        return self.inventory.has_room(use)

    def _change(self, use: Use, sign: int) -> None:
        gpus = sign * use.gpus
        if not use.is_plain:
            if not self._own_spare:
                self.inventory.spare, self._own_spare = self.inventory.spare.copy(), True
            spare = self.inventory.spare
            spare.cpu_milli[use.nodes] -= sign * use.cpu_milli * use.replicas
            spare.memory_mib[use.nodes] -= sign * use.memory_mib * use.replicas
            if use.gpu_milli:
                move = spare.cards.take if sign > 0 else spare.cards.give
                gpus = gpus * move(int(use.nodes[0]), use.card, use.gpu_milli)
        self.unused[use.nodes] -= gpus
