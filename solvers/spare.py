"""What nodes have to spare beside whole GPUs: CPU, memory, and what is left on cards that parts of GPUs share.

A node is in `Pools` with its whole free GPUs. Most requests need no more, and nothing here is read for them. A
card of which a part is taken is *shared*: no whole GPU any more, its parts are packed by `solvers.cards`. Shared
cards are few, so only nodes that have some get a row of cards.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
NOT_LIMITED = int(np.iinfo(np.int64).max) // 2
"""CPU or memory of a node without a limit; what is taken of it is too little to matter."""
MILLI = 1_000
"""Thousandths of a card."""
WHOLE = -1
"""Cell of a card that no part stands on."""
NO_ROW = -1


class Cards:
    """Shared cards by node and number. `row_of` (nodes,): row of a node, or NO_ROW; `node_of` (rows,) the inverse.

    `left` (rows, cards): thousandths that are left on each card, WHOLE where it is not shared.
    """

    def __init__(self, nodes: int, cards: int) -> None:
        self.row_of = np.full(nodes, NO_ROW, dtype=np.int64)
        self.left = np.full((1, max(cards, 1)), WHOLE, dtype=np.int64)
        self.node_of = np.full(1, NO_ROW, dtype=np.int64)
        self._spare_rows = [0]

    def copy(self) -> Cards:
        """The same cards, whatever becomes of these."""
        other = copy(self)
        other.row_of, other.left, other.node_of = self.row_of.copy(), self.left.copy(), self.node_of.copy()
        other._spare_rows = self._spare_rows.copy()
        return other

    def of(self, node: int) -> dict[int, int]:
        """Thousandths left on each shared card of a node, by number."""
        row = self.row_of[node]
        if row == NO_ROW:
            return {}
        return {card: left for card, left in enumerate(self.left[row].tolist()) if left != WHOLE}

    def take(self, node: int, card: int, milli: int) -> bool:
        """Put a part on a card; whether the card was whole before."""
        row = self.row_of[node]
        if row == NO_ROW:
            row = self.row_of[node] = self._new_row()
            self.node_of[row] = node
        was_whole = bool(self.left[row, card] == WHOLE)
        self.left[row, card] = (MILLI if was_whole else self.left[row, card]) - milli
        return was_whole

    def give(self, node: int, card: int, milli: int) -> bool:
        """Take a part off a card; whether the card is whole again."""
        row = self.row_of[node]
        self.left[row, card] += milli
        if self.left[row, card] < MILLI:
            return False
        self.left[row, card] = WHOLE
        if (self.left[row] == WHOLE).all():
            self.row_of[node] = self.node_of[row] = NO_ROW
            self._spare_rows.append(int(row))
        return True

    def first_whole(self, node: int) -> int:
        """The lowest number of a card of a node that no part stands on; it must have one."""
        row = self.row_of[node]
        return 0 if row == NO_ROW else int(np.argmax(self.left[row] == WHOLE))

    def table(self) -> Int:
        """(node, card, thousandths left) of every shared card, in this order, (cards, 3)."""
        nodes = np.flatnonzero(self.row_of != NO_ROW)
        place, card = np.nonzero(self.left[self.row_of[nodes]] != WHOLE)
        return np.stack((nodes[place], card, self.left[self.row_of[nodes[place]], card]), axis=1)

    def restore(self, table: Int) -> None:
        """Share cards as a `table` says; there are none before."""
        for node, card, left in table.tolist():
            self.take(node, card, MILLI - left)

    def _new_row(self) -> int:
        if not self._spare_rows:
            rows = self.left.shape[0]
            self.left = np.concatenate((self.left, np.full_like(self.left, WHOLE)))
            self.node_of = np.concatenate((self.node_of, np.full_like(self.node_of, NO_ROW)))
            self._spare_rows = list(range(2 * rows - 1, rows - 1, -1))
        return self._spare_rows.pop()


class Spare:
    """`cpu_milli`, `memory_mib` (nodes,): left of each node, mutated; `is_open` (nodes,): takes new work."""

    def __init__(self, cpu_milli: Int, memory_mib: Int, cards: int) -> None:
        """`cpu_milli`, `memory_mib`: of idle nodes. `cards`: the most of any node."""
        self.cpu_milli, self.memory_mib = cpu_milli, memory_mib
        self.cards = Cards(cpu_milli.size, cards)
        self.is_open = np.zeros(cpu_milli.size, dtype=np.bool_)
        self.worth: Arrays | None = None
        """What demand pays for what is left (`solvers.sharing.worth.Worth.arrays`), once a market has cleared."""

    def copy(self) -> Spare:
        """The same, whatever becomes of this one."""
        other = copy(self)
        other.cpu_milli, other.memory_mib = self.cpu_milli.copy(), self.memory_mib.copy()
        other.is_open, other.cards = self.is_open.copy(), self.cards.copy()
        return other

    def arrays(self) -> Arrays:
        """As kernels take it."""
        return self.cpu_milli, self.memory_mib, self.is_open, self.cards.node_of, self.cards.left
