"""What a gang may choose from: one model, one fabric, one set of close sites; each as a few lists of slots by
price.

Slots are listed three times in `Walks`: by model, by model and site, by model and fabric; inside each of these
*segments* by price. A *choice* of a shape is a set of segments that one placement may use together, at most a
handful, so that the cheapest placement of a choice is a merge of sorted lists. Where a gang limits the RTT
between its nodes, a choice stands for one site and those within the limit of it (a star: a relaxation, for
bounds) or for a set of mutually close sites (a clique: for plans); wide ones walk the segment of the whole model
under a mask of sites. Choices that cannot hold the smallest gang of their shape are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.distances import RTT_TOLERANCE_MS, Distances
from solvers.kernel import Arrays, kernel
from solvers.planning.fold import CAPACITY, FABRIC, MODEL, SITE, Rows, Shapes
from solvers.planning.listing import list_choices
from solvers.planning.side_by_side import in_ranges

Int = NDArray[np.int64]
Int32 = NDArray[np.int32]
Flags = NDArray[np.bool_]

# Columns of `Choices.table`: segments [FIRST, LAST) of `segments`; mask of sites, model and fabric, -1: any; how
# many replicas an empty fleet has room for.
C_FIRST, C_LAST, C_MASK, C_MODEL, C_FABRIC, C_ROOM = range(6)


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the segments stand in a walk; each (segments + 1,) starts.

    `site` and `fabric` count from the beginning of the walk: the model segments fill [0, slots), the site segments
    [slots, 2·slots), the fabric segments the rest. `site_of_row`, `fabric_of_row`: (rows,), -1 for no fabric.
    """

    model: Int
    site: Int
    fabric: Int
    site_of_row: Int
    fabric_of_row: Int


def segments_of(rows: Rows) -> Segments:
    """Number the segments."""
    table, slots = rows.table, rows.node.size
    size = np.diff(rows.start)
    change = (np.diff(table[:, MODEL], prepend=-1) != 0) | (np.diff(table[:, SITE], prepend=-1) != 0)
    site_of_row = np.cumsum(change) - 1
    site = slots + np.append(rows.start[:-1][change], slots)
    on = np.flatnonzero(table[:, FABRIC] >= 0)
    keys = table[on, MODEL] * (table[:, FABRIC].max(initial=0) + 1) + table[on, FABRIC]
    _, number = np.unique(keys, return_inverse=True)
    fabric_of_row = np.full(table.shape[0], -1, dtype=np.int64)
    fabric_of_row[on] = number
    width = np.bincount(number, weights=size[on]).astype(np.int64) if on.size else np.empty(0, dtype=np.int64)
    return Segments(
        model=rows.start[rows.model_start],
        site=site,
        fabric=2 * slots + np.append(0, np.cumsum(width)),
        site_of_row=site_of_row,
        fabric_of_row=fabric_of_row,
    )


@dataclass(frozen=True, slots=True)
class Walk:
    """Slots by segment, then price, then slot: `slot` and its `row`, int32, (walk,).

    `place` (slots, 3): where each slot stands among its model's, its site's and its fabric's, -1 without one.
    """

    slot: Int32
    row: Int32
    place: Int32


def walk_by(price: NDArray[np.float64], rows: Rows, segments: Segments) -> Walk:
    """Order the slots of every segment by `price` (slots,)."""
    length = int(segments.fabric[-1])
    walk = Walk(np.empty(length, np.int32), np.empty(length, np.int32), np.full((price.size, 3), -1, np.int32))
    deal(
        np.argsort(price, kind="stable"),
        rows.row_of,
        np.ascontiguousarray(rows.table[:, MODEL]),
        segments.site_of_row,
        segments.fabric_of_row,
        (segments.model.copy(), segments.site.copy(), segments.fabric.copy()),
        (walk.slot, walk.row, walk.place),
    )
    return walk


@kernel
def deal(
    by_price: Int, row_of: Int, model_of: Int, site_of: Int, fabric_of: Int, ends: Arrays, walk: Arrays
) -> None:
    """Deal slots to the segments that they belong to, in their order. `ends`: begins of the segments, mutated."""
    of_model, of_site, of_fabric = ends
    slots, rows, place = walk
    for slot in by_price:
        row = row_of[slot]
        at = of_model[model_of[row]]
        slots[at], rows[at], place[slot, 0] = slot, row, at
        of_model[model_of[row]] += 1
        at = of_site[site_of[row]]
        slots[at], rows[at], place[slot, 1] = slot, row, at
        of_site[site_of[row]] += 1
        if fabric_of[row] >= 0:
            at = of_fabric[fabric_of[row]]
            slots[at], rows[at], place[slot, 2] = slot, row, at
            of_fabric[fabric_of[row]] += 1


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of shape s are [first[s], first[s + 1]) of `table`; `segments` (n, 2): begin and end in a walk.

    `masks` (masks, sites): bool, the sites that a choice with C_MASK >= 0 may use.
    """

    first: Int
    table: Int
    segments: Int
    masks: Flags


def stars(distances: Distances, limits_ms: NDArray[np.float64], sites: int) -> Flags:
    """Row l·sites + s: the sites within the finite limit l of site s."""
    masks = np.zeros((limits_ms.size * sites, sites), dtype=bool)
    for site in range(sites):
        rtt_ms = distances.from_site(site)
        for index, limit in enumerate(limits_ms):
            masks[index * sites + site] = rtt_ms <= limit + RTT_TOLERANCE_MS
    return masks


def cliques(distances: Distances, limits_ms: NDArray[np.float64], star: Flags, whole: Int, left: Int) -> Flags:
    """Row l·sites + s: mutually close sites around site s, grown greedily by nearness; maximal.

    `whole` (sites,): GPUs; `left` (sites,): thousandths on shared cards. Sites with neither are passed over. Those
    with no whole GPU come last: what only a part can use must keep no cluster from a site.
    """
    masks = np.zeros_like(star)
    for site in range(whole.size):
        by_nearness = np.argsort(distances.from_site(site), kind="stable")
        has_whole, has_left = whole[by_nearness] > 0, left[by_nearness] > 0
        taken = np.concatenate([by_nearness[has_whole], by_nearness[~has_whole & has_left]])
        grow(masks, site, whole.size, taken, star)
    return masks


@kernel
def grow(masks: Flags, site: int, sites: int, by_nearness: Int, star: Flags) -> None:
    """Fill the rows l·sites + site of `masks`, all False on entry: each site that is near all taken before it."""
    for mask in range(site, masks.shape[0], sites):
        allowed = star[mask].copy()
        for other in by_nearness:
            if allowed[other]:
                masks[mask, other] = True
                allowed &= star[mask - site + other]


def choices_of(
    rows: Rows, shapes: Shapes, segments: Segments, star: Arrays, clique: Arrays, limits: int
) -> tuple[Choices, Choices]:
    """The choices of every shape for bounds, by `star`, and for plans, by `clique`, both as `sites_of` gives them.

    `limits`: finite RTT limits, so that limit l = `limits` means none.
    """
    columns = (rows.table[:, MODEL], rows.table[:, SITE], rows.table[:, FABRIC], rows.table[:, CAPACITY])
    per_row = (*columns, np.diff(rows.start), segments.site_of_row, segments.fabric_of_row)
    fleet = (
        *(column.astype(np.int32) for column in per_row),
        segments.model,
        segments.site,
        segments.fabric,
        rows.model_start,
    )
    wanted = shapes.table, shapes.first, shapes.rows
    parts = in_ranges(
        shapes.table.shape[0], lambda begin, end: list_choices(begin, end, fleet, wanted, star, clique, limits)
    )
    relaxed, placed = zip(*parts, strict=True)
    with ThreadPoolExecutor(1) as beside:
        by_star = beside.submit(joined, relaxed, star[0])
        by_clique = joined(placed, clique[0])
        return by_star.result(), by_clique


def sites_of(masks: Flags) -> Arrays:
    """(masks, a number that equal masks share, first (masks + 1,), sites): the sites of each mask, ascending."""
    first_with: dict[bytes, int] = {}
    same = np.array([first_with.setdefault(row.tobytes(), at) for at, row in enumerate(masks)], dtype=np.int64)
    mask, site = np.nonzero(masks)
    starts = np.searchsorted(mask, np.arange(masks.shape[0] + 1))
    return masks, same, starts, np.ascontiguousarray(site)  # few or many, the same type for kernels


def joined(lists: Sequence[Arrays], masks: Flags) -> Choices:
    """The lists of consecutive shapes, one after the other."""
    choices = np.cumsum([0, *(table.shape[0] for _, table, _ in lists)])
    segments = np.cumsum([0, *(listed.shape[0] for _, _, listed in lists)])
    table = np.concatenate([table for _, table, _ in lists])
    for at, (_, one, _) in enumerate(lists):
        table[choices[at] : choices[at] + one.shape[0], : C_LAST + 1] += segments[at]
    first = np.concatenate([[0], *(begins[1:] + choices[at] for at, (begins, _, _) in enumerate(lists))])
    return Choices(first, table, np.concatenate([listed for _, _, listed in lists]), masks)
