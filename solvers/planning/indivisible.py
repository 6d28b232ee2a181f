"""What is free for a gang that finds room nowhere: the single choice with the most of its whole replicas left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.choices import C_FABRIC, C_MASK, C_MODEL
from solvers.planning.fold import FABRIC, MODEL, SITE, SUPPLIER
from solvers.planning.prepare import Prepared

Int = NDArray[np.int64]


def most_replicas(prepared: Prepared, free: Int, refused: Int) -> tuple[Int, Int]:
    """(choice, replicas) of each refused gang: replicas that free GPUs (slots,) within its bid can hold together.

    The choice is an index into `prepared.placed.table`, the first of the best; a limit per supplier is kept.
    """
    gangs, choices, rows, shapes = prepared.problem.gangs, prepared.placed, prepared.rows, prepared.shapes
    supply = rows.table, rows.start, rows.ask, free
    wanted = shapes.of_gang, gangs.gpus_per_replica, gangs.value_micro_usd, gangs.max_gpus_per_supplier
    listed = shapes.first, shapes.rows, choices.first, choices.table, choices.masks
    return best_choices(refused, wanted, listed, supply, prepared.problem.supplier_sets.shape[1])


def rows_of(prepared: Prepared, shape: int, choice: int) -> Int:
    """The rows that a placement of a shape by one of its choices may use, ascending."""
    shapes, choices = prepared.shapes, prepared.placed
    rows = shapes.rows[shapes.first[shape] : shapes.first[shape + 1]].astype(np.int64)
    return rows_in(choices.table[choice], choices.masks, prepared.rows.table, rows)


@kernel
def rows_in(choice: Int, masks: NDArray[np.bool_], table: Int, rows: Int) -> Int:
    """Those of some rows that belong to a choice."""
    kept = np.empty(rows.size, dtype=np.bool_)
    for i in range(rows.size):
        kept[i] = is_in(choice, masks, table[rows[i]])
    return rows[kept]


@kernel
def best_choices(refused: Int, wanted: Arrays, listed: Arrays, supply: Arrays, suppliers: int) -> tuple[Int, Int]:
    """See `most_replicas`."""
    of_gang, size, value, most_of_supplier = wanted
    first, rows, first_choice, choices, masks = listed
    table, start, ask, free = supply
    best, most = np.full(refused.size, -1, dtype=np.int64), np.zeros(refused.size, dtype=np.int64)
    room, roomy = np.zeros((2, table.shape[0]), dtype=np.int64)
    of_supplier = np.zeros(suppliers, dtype=np.int64)
    for i in range(refused.size):
        gang, shape = refused[i], of_gang[refused[i]]
        g = size[gang]
        cap = most_of_supplier[gang] // g if most_of_supplier[gang] >= 0 else np.int64(1) << 40
        count = 0
        for row in rows[first[shape] : first[shape + 1]]:
            room[row] = 0
            for slot in range(start[row], start[row + 1]):
                if ask[slot] > value[gang]:
                    break
                room[row] += free[slot] // g
            if room[row] > 0:
                roomy[count] = row
                count += 1
        mine = roomy[:count]
        for choice in range(first_choice[shape], first_choice[shape + 1]):
            total = np.int64(0)
            for row in mine:
                if is_in(choices[choice], masks, table[row]):
                    supplier = table[row, SUPPLIER]
                    take = min(room[row], cap - of_supplier[supplier])
                    of_supplier[supplier] += take
                    total += take
            for row in mine:
                of_supplier[table[row, SUPPLIER]] = 0
            if best[i] < 0 or total > most[i]:
                best[i], most[i] = choice, total
    return best, most


@kernel
def is_in(choice: Int, masks: NDArray[np.bool_], row: Int) -> bool:
    """Whether a row belongs to a choice of a shape that may use it."""
    return bool(
        (choice[C_MODEL] < 0 or row[MODEL] == choice[C_MODEL])
        and (choice[C_FABRIC] < 0 or row[FABRIC] == choice[C_FABRIC])
        and (choice[C_MASK] < 0 or masks[choice[C_MASK], row[SITE]])
    )
