"""Which rows each shape buys from in the relaxation: those of its choices, cheapest asks first, to a multiple of
its need.

A gang never pays more than its value, and among a hundred times the GPUs that it needs the dearest do not matter
to its price: leaving those pairs out keeps the relaxation ten times smaller. Small gangs compete with thousands of
their like, so that some thousands of GPUs are listed whatever the need. The prices stay a valid proof
whatever is left out here, since the bound is computed from the gangs' full choices (`solvers.planning.dual`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.choices import C_FIRST, C_LAST, C_MASK
from solvers.planning.fold import CAPACITY, G_NEED, G_REPLICA, MODEL, SITE
from solvers.planning.prepare import Prepared
from solvers.planning.side_by_side import in_ranges

Int = NDArray[np.int64]
Int32 = NDArray[np.int32]

ROOM_MULTIPLE = 100
ROOM_LEAST_GPUS = 16_000
"""GPUs listed of every segment: a multiple of the gang's own, and enough where many small gangs compete."""


def pairs_of(prepared: Prepared, most: NDArray[np.float64]) -> tuple[Int, Int32]:
    """(first (shapes + 1,), rows (pairs,)): rows of each shape; `most` (shapes,): rows asking that much are left
    out.
    """
    rows = prepared.rows
    first_ask = rows.ask[rows.start[:-1]] if rows.node.size else np.empty(0, dtype=np.int64)
    order = np.lexsort((first_ask, rows.table[:, MODEL]))
    columns = (
        np.ascontiguousarray(rows.table[:, SITE]),
        np.diff(rows.start) * rows.table[:, CAPACITY],
        first_ask,
        order,
        rows.model_start,
        np.ascontiguousarray(prepared.shapes.table[:, G_NEED] * prepared.shapes.table[:, G_REPLICA]),
        most,
    )
    shapes, model = prepared.shape_arrays(prepared.relaxed), rows.table[:, MODEL].copy()
    parts = in_ranges(
        most.size, lambda begin, end: list_pairs(begin, end, columns, shapes, prepared.segment_rows, model)
    )
    counts, listed = zip(*parts, strict=True)
    return np.append(0, np.cumsum(np.concatenate(counts))), np.concatenate(listed)


@kernel
def list_pairs(
    begin_shape: int, end_shape: int, rows: Arrays, shapes: Arrays, segment_rows: Arrays, model: Int
) -> tuple[Int, Int32]:
    """(rows of each shape in [begin_shape, end_shape), listed one after the other); see `pairs_of`.

    `segment_rows`: (slots, first row in `listed` by walk position, `listed` rows by segment).
    """
    site, room, first_ask, by_ask, model_start, need, most = rows
    first, table, segments, masks, bits = shapes
    slots, start_of, row_of_segment, segment_end = segment_rows
    counts = np.zeros(end_shape - begin_shape, dtype=np.int64)
    out = np.empty(1 << 16, dtype=np.int32)
    stamp, seen = np.full(site.size, -1, dtype=np.int64), np.full(start_of.size, -1, dtype=np.int32)
    at = 0
    one = np.uint64(1)
    for shape in range(begin_shape, end_shape):
        before = at
        for choice in range(first[shape], first[shape + 1]):
            mask = table[choice, C_MASK]
            for k in range(table[choice, C_FIRST], table[choice, C_LAST]):
                if segments[k, 0] < slots:
                    row_model = model[row_of_segment[start_of[segments[k, 0]]]]
                    begin, end = model_start[row_model], model_start[row_model + 1]
                else:
                    if segments[k, 0] < 2 * slots:  # of one site: a mask has all of it or nothing
                        if seen[segments[k, 0]] == shape:
                            continue
                        seen[segments[k, 0]] = shape
                    begin = start_of[segments[k, 0]]
                    end = segment_end[segments[k, 0]]
                whole = segments[k, 0] < slots
                left = max(ROOM_MULTIPLE * need[shape], ROOM_LEAST_GPUS)
                if at + end - begin > out.size:
                    more = np.empty(2 * out.size + end - begin, dtype=np.int32)
                    more[: out.size] = out
                    out = more
                for i in range(begin, end):
                    row = by_ask[i] if whole else row_of_segment[i]
                    if not (bits[shape, row >> 6] >> np.uint64(row & 63)) & one:
                        continue
                    if mask >= 0 and not masks[mask, site[row]]:
                        continue
                    if first_ask[row] >= most[shape] or left <= 0:
                        if whole:
                            break
                        continue
                    left -= room[row]
                    if stamp[row] != shape:
                        stamp[row] = shape
                        out[at] = row
                        at += 1
        counts[shape - begin_shape] = at - before
    return counts, out[:at]
