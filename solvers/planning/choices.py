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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.distances import RTT_TOLERANCE_MS, Distances
from solvers.kernel import Arrays, kernel
from solvers.planning.fold import (
    CAPACITY,
    FABRIC,
    G_FABRIC,
    G_LIMIT,
    G_NEED,
    G_ONE_MODEL,
    G_REPLICA,
    MODEL,
    SITE,
    Rows,
    Shapes,
)

Int = NDArray[np.int64]
Int32 = NDArray[np.int32]
Flags = NDArray[np.bool_]

FEW_SEGMENTS = 6
"""Up to so many site segments are merged; beyond, the segment of the whole model is walked."""

CLOSE_SEGMENTS = 32
"""The same for choices of close sites: walking a model under a mask passes over most of it."""

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
    slots_on_fabric: Int


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
        slots_on_fabric=np.flatnonzero(table[rows.row_of, FABRIC] >= 0),
    )


@dataclass(frozen=True, slots=True)
class Walk:
    """Slots by segment, then price, then slot: `slot` and its `row`, int32, (walk,)."""

    slot: Int32
    row: Int32


def walk_by(price: NDArray[np.float64], rows: Rows, segments: Segments) -> Walk:
    """Order the slots of every segment by `price` (slots,)."""
    by_price = np.argsort(price, kind="stable")
    on_fabric = by_price[segments.fabric_of_row[rows.row_of[by_price]] >= 0]
    slot = np.concatenate(
        [
            by_price[np.argsort(rows.table[rows.row_of[by_price], MODEL], kind="stable")],
            by_price[np.argsort(segments.site_of_row[rows.row_of[by_price]], kind="stable")],
            on_fabric[np.argsort(segments.fabric_of_row[rows.row_of[on_fabric]], kind="stable")],
        ]
    )
    return Walk(slot.astype(np.int32), rows.row_of[slot].astype(np.int32))


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


def cliques(distances: Distances, limits_ms: NDArray[np.float64], star: Flags, weight: Int) -> Flags:
    """Row l·sites + s: mutually close sites around site s, grown greedily by nearness; maximal.

    `weight` (sites,): capacity; sites without any are passed over.
    """
    sites = weight.size
    masks = np.zeros_like(star)
    for site in range(sites):
        by_nearness = np.argsort(distances.from_site(site), kind="stable")
        by_nearness = by_nearness[weight[by_nearness] > 0]
        for index in range(limits_ms.size):
            base = index * sites
            allowed = star[base + site].copy()
            for other in by_nearness[allowed[by_nearness]]:
                if allowed[other]:
                    masks[base + site, other] = True
                    allowed &= star[base + other]
    return masks


def choices_of(rows: Rows, shapes: Shapes, segments: Segments, masks: Flags, limits: int) -> Choices:
    """List the choices of every shape. `limits`: finite RTT limits, so that limit l = `limits` means none."""
    sites = masks.shape[1]
    _, same = np.unique(np.packbits(masks, axis=1), axis=0, return_inverse=True)
    near = np.flatnonzero(masks.ravel())
    first, table, listed = list_choices(
        (
            rows.table.astype(np.int32),
            np.diff(rows.start),
            shapes.table,
            shapes.first,
            shapes.rows,
            segments.model,
            segments.site,
            segments.fabric,
            segments.site_of_row,
            segments.fabric_of_row,
            masks,
            same,
            np.searchsorted(near, np.arange(masks.shape[0] + 1) * sites),
            near % max(sites, 1),
            limits,
            sites,
        )
    )
    return Choices(first, table, listed, masks)


@kernel
def grown(array: Int, size: int) -> Int:
    """The array itself if it has room for `size` rows and some more, else a larger copy."""
    if size + 2 * CLOSE_SEGMENTS < array.shape[0]:
        return array
    larger = np.empty((2 * array.shape[0] + 4 * CLOSE_SEGMENTS, array.shape[1]), dtype=np.int64)
    larger[: array.shape[0]] = array
    return larger


@kernel
def list_choices(args: Arrays) -> tuple[Int, Int, Int]:
    """(first (shapes + 1,), choices (choices, 6), segments (n, 2)); see `Choices`."""
    rows, width, shapes, first, listed_rows, at_model, at_site, at_fabric = args[:8]
    site_of, fabric_of, masks, same, near_first, near, limits, sites = args[8:]
    table, listed = np.empty((1024, 6), dtype=np.int64), np.empty((1024, 2), dtype=np.int64)
    begins = np.zeros(shapes.shape[0] + 1, dtype=np.int64)
    choices, segments = 0, 0
    room_at = np.zeros(sites, dtype=np.int64)
    chain_head = np.full(sites, -1, dtype=np.int64)
    chain_next, chain_segment = np.empty(at_site.size, dtype=np.int64), np.empty(at_site.size, dtype=np.int64)
    part_models = np.empty(at_model.size, dtype=np.int64)
    done = np.full(masks.shape[0], -1, dtype=np.int64)
    for shape in range(shapes.shape[0]):
        want = shapes[shape]
        mine = listed_rows[first[shape] : first[shape + 1]]
        need, g, limited = want[G_NEED], want[G_REPLICA], want[G_LIMIT] < limits
        begin = 0
        while begin < mine.size:
            end = mine.size
            if want[G_ONE_MODEL]:
                end = begin
                while end < mine.size and rows[mine[end], MODEL] == rows[mine[begin], MODEL]:
                    end += 1
            model = rows[mine[begin], MODEL] if want[G_ONE_MODEL] else -1
            part = mine[begin:end]
            begin = end
            room = np.int64(0)
            for row in part:
                room += width[row] * (rows[row, CAPACITY] // g)
            if room < need:
                continue
            if want[G_FABRIC]:
                keys = np.empty(part.size, dtype=np.int64)
                for i in range(part.size):
                    keys[i] = rows[part[i], FABRIC]
                order = np.argsort(keys, kind="mergesort")
                i = 0
                while i < order.size:
                    j, room, several = i, np.int64(0), False
                    while j < order.size and keys[order[j]] == keys[order[i]]:
                        row = part[order[j]]
                        room += width[row] * (rows[row, CAPACITY] // g)
                        several = several or rows[row, SITE] != rows[part[order[i]], SITE]
                        j += 1
                    last = -1
                    for k in range(i, j if room >= need else i):
                        site = rows[part[order[k]], SITE]
                        if k > i and (not (several and limited) or site == last):
                            continue
                        last = site
                        table, start = grown(table, choices), segments
                        for other in range(i, j):
                            number = fabric_of[part[order[other]]]
                            if segments == start or listed[segments - 1, 0] != at_fabric[number]:
                                listed = grown(listed, segments)
                                listed[segments, 0], listed[segments, 1] = at_fabric[number], at_fabric[number + 1]
                                segments += 1
                        mask = want[G_LIMIT] * sites + site if several and limited else -1
                        table[choices, 0], table[choices, 1], table[choices, 2] = start, segments, mask
                        table[choices, 3], table[choices, 4], table[choices, 5] = model, keys[order[i]], room
                        choices += 1
                    i = j
            elif limited:
                # Segments of each site as linked lists, and the models of the part.
                count, models, previous, model_before = 0, 0, -1, -1
                for row in part:
                    site = rows[row, SITE]
                    room_at[site] += width[row] * (rows[row, CAPACITY] // g)
                    if site_of[row] != previous:
                        previous = site_of[row]
                        chain_segment[count], chain_next[count], chain_head[site] = (
                            previous,
                            chain_head[site],
                            count,
                        )
                        count += 1
                    if rows[row, MODEL] != model_before:
                        model_before = rows[row, MODEL]
                        part_models[models] = model_before
                        models += 1
                for site in range(sites):
                    mask = want[G_LIMIT] * sites + site
                    if room_at[site] == 0 or done[same[mask]] == part_key(shape, begin):
                        continue
                    room, count = np.int64(0), 0
                    for i in range(near_first[mask], near_first[mask + 1]):
                        room += room_at[near[i]]
                        link = chain_head[near[i]]
                        while link >= 0:
                            count += 1
                            link = chain_next[link]
                    if room < need:
                        continue
                    done[same[mask]] = part_key(shape, begin)
                    table, start = grown(table, choices), segments
                    few = count <= CLOSE_SEGMENTS
                    for i in range(near_first[mask], near_first[mask + 1] if few else near_first[mask]):
                        link = chain_head[near[i]]
                        while link >= 0:
                            number = chain_segment[link]
                            listed = grown(listed, segments)
                            listed[segments, 0], listed[segments, 1] = at_site[number], at_site[number + 1]
                            segments += 1
                            link = chain_next[link]
                    for i in range(0 if few else models):
                        listed = grown(listed, segments)
                        listed[segments, 0] = at_model[part_models[i]]
                        listed[segments, 1] = at_model[part_models[i] + 1]
                        segments += 1
                    table[choices, 0], table[choices, 1], table[choices, 2] = start, segments, mask
                    table[choices, 3], table[choices, 4], table[choices, 5] = model, -1, room
                    choices += 1
                for row in part:
                    room_at[rows[row, SITE]], chain_head[rows[row, SITE]] = 0, -1
            else:
                table, start, i = grown(table, choices), segments, 0
                while i < part.size:
                    j, count, previous = i, 0, -1
                    here = rows[part[i], MODEL]
                    while j < part.size and rows[part[j], MODEL] == here:
                        count += site_of[part[j]] != previous
                        previous = site_of[part[j]]
                        j += 1
                    previous = -1
                    for k in range(i, j if count <= FEW_SEGMENTS else i):
                        number = site_of[part[k]]
                        if number != previous:
                            previous = number
                            listed = grown(listed, segments)
                            listed[segments, 0], listed[segments, 1] = at_site[number], at_site[number + 1]
                            segments += 1
                    if count > FEW_SEGMENTS:
                        listed = grown(listed, segments)
                        listed[segments, 0], listed[segments, 1] = at_model[here], at_model[here + 1]
                        segments += 1
                    i = j
                table[choices, 0], table[choices, 1], table[choices, 2] = start, segments, -1
                table[choices, 3], table[choices, 4], table[choices, 5] = model, -1, room
                choices += 1
        begins[shape + 1] = choices
    return begins, table[:choices], listed[:segments]


@kernel
def part_key(shape: int, begin: int) -> int:
    """A number for one part of one shape."""
    return (shape << 20) + begin
