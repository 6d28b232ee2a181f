"""Listing the choices of every shape: kernels behind `solvers.planning.choices`.

Rows of a shape come by model, then site. A shape that must use one model is listed model by model, each a *part*.
What grows is returned, how much of it is filled stands in `size`: (choices, segments).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.fold import (
    CAPACITY,
    FABRIC,
    G_FABRIC,
    G_LIMIT,
    G_MILLI,
    G_NEED,
    G_ONE_MODEL,
    G_REPLICA,
    MODEL,
    SITE,
)

Int = NDArray[np.int64]

FEW_SEGMENTS = 6
"""Up to so many site segments are merged; beyond, the segment of the whole model is walked."""
CLOSE_SEGMENTS = 32
"""The same for choices of close sites: walking a model under a mask passes over most of it."""
CHOICES, SEGMENTS = 0, 1


@kernel
def list_choices(args: Arrays) -> tuple[Int, Int, Int]:
    """(first (shapes + 1,), choices (choices, 6), segments (n, 2)); see `solvers.planning.choices.Choices`.

    `args`: rows, their nodes, shapes, the rows of each shape (first, listed), the first walk position of every
    segment by model, by site, by fabric, the segment of each row by site and by fabric, masks of sites, a number
    that equal masks share, the sites of each mask (first, listed), how many finite RTT limits, how many sites.
    """
    rows, width, shapes, first, listed_rows, at_model, at_site = args[:7]
    masks, limits, sites = args[10], args[14], args[15]
    fabrics = rows[:, FABRIC].max() + 1 if rows.shape[0] else 0
    capacities = rows[:, CAPACITY].max() + 1 if rows.shape[0] else 1
    table, listed = np.empty((1024, 6), dtype=np.int64), np.empty((1024, 2), dtype=np.int64)
    begins, size = np.zeros(shapes.shape[0] + 1, dtype=np.int64), np.zeros(2, dtype=np.int64)
    chains = (
        np.zeros(sites, dtype=np.int64),
        np.full(sites, -1, dtype=np.int64),
        np.empty(at_site.size, dtype=np.int64),
        np.empty(at_site.size, dtype=np.int64),
        np.empty(at_model.size, dtype=np.int64),
        np.full(masks.shape[0], -1, dtype=np.int64),
        np.zeros(sites, dtype=np.int64),
    )
    heaps = (
        np.full(fabrics, -1, dtype=np.int64),
        np.empty(fabrics, dtype=np.int64),
        np.empty(rows.shape[0], dtype=np.int64),
        np.empty(fabrics, dtype=np.int64),
        np.empty(rows.shape[0], dtype=np.int32),
    )
    for shape in range(shapes.shape[0]):
        want, begin = shapes[shape], 0
        fits = np.arange(capacities) // want[G_REPLICA]
        if want[G_MILLI] > 0:
            fits[:] = 1  # rows without a free GPU are listed for what is left on their cards
        mine = listed_rows[first[shape] : first[shape + 1]]
        while begin < mine.size:
            end = end_of_model(rows, mine, begin) if want[G_ONE_MODEL] else mine.size
            part, key = mine[begin:end], (shape << 20) + end
            model = rows[part[0], MODEL] if want[G_ONE_MODEL] else -1
            begin = end
            room = room_of(rows, width, part, fits)
            if room < want[G_NEED]:
                continue
            if want[G_FABRIC]:
                table, listed = by_fabric(args, part, want, model, fits, heaps, table, listed, size)
            elif want[G_LIMIT] < limits:
                table, listed = by_nearness(args, part, want, model, fits, key, chains, table, listed, size)
            else:
                start = size[SEGMENTS]
                listed = whole_part(args, part, listed, size)
                table = with_choice(table, size, start, -1, model, -1, room)
        begins[shape + 1] = size[CHOICES]
    return begins, table[: size[CHOICES]], listed[: size[SEGMENTS]]


@kernel
def end_of_model(rows: Int, listed: Int, begin: int) -> int:
    """Where the rows of the model at `begin` end."""
    end = begin
    while end < listed.size and rows[listed[end], MODEL] == rows[listed[begin], MODEL]:
        end += 1
    return end


@kernel
def room_of(rows: Int, width: Int, listed: Int, fits: Int) -> int:
    """Replicas that an empty fleet has room for on some rows; `fits`: on a node, by its capacity."""
    room = 0
    for row in listed:
        room += width[row] * fits[rows[row, CAPACITY]]
    return room


@kernel
def grown(array: Int, size: int) -> Int:
    """The array itself if it has room for one more row, else a larger copy."""
    if size < array.shape[0]:
        return array
    larger = np.empty((2 * array.shape[0], array.shape[1]), dtype=np.int64)
    larger[: array.shape[0]] = array
    return larger


@kernel
def with_segment(listed: Int, size: Int, starts: Int, number: int) -> Int:
    """List one more segment, by its number among those that begin at `starts`."""
    at = size[SEGMENTS]
    listed = grown(listed, at)
    listed[at, 0], listed[at, 1] = starts[number], starts[number + 1]
    size[SEGMENTS] += 1
    return listed


@kernel
def with_choice(table: Int, size: Int, start: int, mask: int, model: int, fabric: int, room: int) -> Int:
    """List one more choice, of the segments from `start` on."""
    at = size[CHOICES]
    table = grown(table, at)
    table[at, 0], table[at, 1], table[at, 2] = start, size[SEGMENTS], mask
    table[at, 3], table[at, 4], table[at, 5] = model, fabric, room
    size[CHOICES] += 1
    return table


@kernel
def whole_part(args: Arrays, part: Int, listed: Int, size: Int) -> Int:
    """The segments of a part anywhere: of each model by site if they are few, else the model's own."""
    rows, at_model, at_site, site_of = args[0], args[5], args[6], args[8]
    begin = 0
    while begin < part.size:
        end, count = end_of_model(rows, part, begin), 0
        for i in range(begin, end):
            count += i == begin or site_of[part[i]] != site_of[part[i - 1]]
        if count > FEW_SEGMENTS:
            listed = with_segment(listed, size, at_model, rows[part[begin], MODEL])
        else:
            for i in range(begin, end):
                if i == begin or site_of[part[i]] != site_of[part[i - 1]]:
                    listed = with_segment(listed, size, at_site, site_of[part[i]])
        begin = end
    return listed


@kernel
def by_fabric(
    args: Arrays,
    part: Int,
    want: Int,
    model: int,
    fits: Int,
    heaps: Arrays,
    table: Int,
    listed: Int,
    size: Int,
) -> tuple[Int, Int]:
    """A choice for every fabric that can hold the gang.

    Where a fabric spans several sites and RTTs are limited: one for each of its sites and those near it.
    `heaps`, scratch: first and last row by fabric, next row by row, fabrics of the part, rows of one of them.
    """
    rows, width, at_fabric, fabric_of, limits, sites = args[0], args[1], args[7], args[9], args[14], args[15]
    head, tail, next_row, present, buffer = heaps
    count = 0
    for row in part:
        fabric = rows[row, FABRIC]
        if head[fabric] < 0:
            head[fabric], present[count] = row, fabric
            count += 1
        else:
            next_row[tail[fabric]] = row
        tail[fabric], next_row[row] = row, -1
    for fabric in np.sort(present[:count]):
        end, several, row = 0, False, head[fabric]
        while row >= 0:
            buffer[end] = row
            several = several or rows[row, SITE] != rows[buffer[0], SITE]
            end += 1
            row = next_row[row]
        head[fabric] = -1
        mine = buffer[:end]
        room = room_of(rows, width, mine, fits)
        if room < want[G_NEED]:
            continue
        masked, last = several and want[G_LIMIT] < limits, -1
        for i in range(mine.size if masked else 1):
            site = rows[mine[i], SITE]
            if site == last:
                continue
            last, start = site, size[SEGMENTS]
            for row in mine:
                number = fabric_of[row]
                if size[SEGMENTS] == start or listed[size[SEGMENTS] - 1, 0] != at_fabric[number]:
                    listed = with_segment(listed, size, at_fabric, number)
            mask = want[G_LIMIT] * sites + site if masked else -1
            table = with_choice(table, size, start, mask, model, fabric, room)
    return table, listed


@kernel
def by_nearness(
    args: Arrays,
    part: Int,
    want: Int,
    model: int,
    fits: Int,
    key: int,
    chains: Arrays,
    table: Int,
    listed: Int,
    size: Int,
) -> tuple[Int, Int]:
    """A choice for every mask of sites that can hold the gang, each of several equal masks once.

    `chains`, scratch: room by site, first link by site, next link, segment of a link, models of the part, for
    each mask the `key` of the last part that has it, links by site.
    """
    rows, at_model, at_site, same, near_first, near, sites = args[0], args[5], args[6], *args[11:14], args[15]
    room_at, head, next_link, segment_of, models, done, links_at = chains
    count = chain_segments(args, part, fits, chains)
    for site in range(sites):
        mask = want[G_LIMIT] * sites + site
        if room_at[site] == 0 or done[same[mask]] == key:
            continue
        around = near[near_first[mask] : near_first[mask + 1]]
        room, links = 0, 0
        for other in around:
            room += room_at[other]
            links += links_at[other]
        if room < want[G_NEED]:
            continue
        done[same[mask]], start = key, size[SEGMENTS]
        if links > CLOSE_SEGMENTS:
            for i in range(count):
                listed = with_segment(listed, size, at_model, models[i])
        else:
            for other in around:
                link = head[other]
                while link >= 0:
                    listed = with_segment(listed, size, at_site, segment_of[link])
                    link = next_link[link]
        table = with_choice(table, size, start, mask, model, -1, room)
    for row in part:
        site = rows[row, SITE]
        room_at[site], head[site], links_at[site] = 0, -1, 0
    return table, listed


@kernel
def chain_segments(args: Arrays, part: Int, fits: Int, chains: Arrays) -> int:
    """Chain the segments of a part by site, add up room by site, and list its models; how many models."""
    rows, width, site_of = args[0], args[1], args[8]
    room_at, head, next_link, segment_of, models, _, links_at = chains
    links, count, previous, model_before = 0, 0, -1, -1
    for row in part:
        site = rows[row, SITE]
        room_at[site] += width[row] * fits[rows[row, CAPACITY]]
        if site_of[row] != previous:
            previous = site_of[row]
            segment_of[links], next_link[links], head[site] = previous, head[site], links
            links_at[site] += 1
            links += 1
        if rows[row, MODEL] != model_before:
            model_before = rows[row, MODEL]
            models[count] = model_before
            count += 1
    return count
