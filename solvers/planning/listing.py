"""Listing the choices of every shape: kernels behind `solvers.planning.choices`.

Rows of a shape come by model, then site, then fabric. A shape that must use one model is listed model by model,
each a *part*. Two lists are made at once, for bounds and for plans: they differ only where close sites are chosen.
What grows is returned; how much of it is filled stands in `size`: (choices, segments).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays, kernel
from solvers.planning.fold import G_FABRIC, G_LIMIT, G_MILLI, G_NEED, G_ONE_MODEL, G_REPLICA

Int = NDArray[np.int64]

FEW_SEGMENTS = 6
"""Up to so many site segments are merged; beyond, the segment of the whole model is walked."""
CLOSE_SEGMENTS = 32
"""The same for choices of close sites: walking a model under a mask passes over most of it."""
CHOICES, SEGMENTS = 0, 1


@kernel
def list_choices(
    begin: int, end: int, fleet: Arrays, shapes: Arrays, stars: Arrays, cliques: Arrays, limits: int
) -> tuple[Arrays, Arrays]:
    """The lists of shapes [begin, end) for bounds and for plans, each (first (shapes + 1,), choices (choices, 6),
    segments (n, 2)); see `solvers.planning.choices.Choices`.

    `fleet`: model, site, fabric, capacity, nodes, site segment and fabric segment of each row, int32, then the
    first walk position of every segment by model, by site, by fabric, and the first row of every model. `shapes`:
    what they want, the rows of each (first, listed). `stars`, `cliques`: masks of sites, a number that equal masks
    share, and the sites of each mask (first, listed); `limits`: how many finite RTT limits they are for.
    """
    fabric, capacity = fleet[2], fleet[3]
    wants, first, listed_rows = shapes
    table, listed = np.empty((1024, 6), dtype=np.int64), np.empty((1024, 2), dtype=np.int64)
    plans, plans_listed = np.empty((1024, 6), dtype=np.int64), np.empty((1024, 2), dtype=np.int64)
    begins, plans_begins = np.zeros(end - begin + 1, dtype=np.int64), np.zeros(end - begin + 1, dtype=np.int64)
    size, plans_size = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    sites, links = stars[0].shape[1], fleet[8].size
    chains = (
        np.zeros(sites, dtype=np.int64),
        np.full(sites, -1, dtype=np.int64),
        np.zeros(sites, dtype=np.int64),
        np.empty(sites, dtype=np.int64),
        np.empty(links, dtype=np.int64),
        np.empty(links, dtype=np.int64),
        np.empty(fleet[7].size, dtype=np.int64),
    )
    done = np.full(stars[0].shape[0], -1, dtype=np.int64)
    plans_done = np.full(stars[0].shape[0], -1, dtype=np.int64)
    fabrics = fabric.max() + 1 if fabric.size else 0
    spots = (
        np.zeros(fabrics, dtype=np.int64),
        np.empty(fabrics, dtype=np.int64),
        np.empty(fabrics, dtype=np.int64),
        np.empty(fabrics, dtype=np.int64),
        np.empty(fabrics, dtype=np.bool_),
    )
    capacities = capacity.max() + 1 if capacity.size else 1
    for shape in range(begin, end):
        want, at = wants[shape], 0
        fits = np.arange(capacities) // want[G_REPLICA]
        if want[G_MILLI] > 0:
            fits[:] = 1  # rows without a free GPU are listed for what is left on their cards
        mine = listed_rows[first[shape] : first[shape + 1]]
        while at < mine.size:
            until = end_of_model(fleet, mine, at) if want[G_ONE_MODEL] else mine.size
            part, key = mine[at:until], (shape << 20) + until
            model = int(fleet[0][part[0]]) if want[G_ONE_MODEL] else -1
            at = until
            room = room_of(fleet, part, fits)
            if room < want[G_NEED]:
                continue
            if want[G_LIMIT] < limits and not want[G_FABRIC]:
                ends = chain_segments(fleet, part, fits, chains)
                table, listed = by_nearness(
                    fleet, stars, want, model, key, ends, chains, done, table, listed, size
                )
                plans, plans_listed = by_nearness(
                    fleet, cliques, want, model, key, ends, chains, plans_done, plans, plans_listed, plans_size
                )
                unchain(chains, ends[0])
                continue
            choice, segment = int(size[CHOICES]), int(size[SEGMENTS])
            if want[G_FABRIC]:
                table, listed = by_fabric(
                    fleet, part, want, model, fits, spots, limits, sites, table, listed, size
                )
            else:
                listed = whole_part(fleet, part, listed, size)
                table = grown(table, choice, 1)
                list_choice(table, size, segment, -1, model, -1, room)
            plans, plans_listed = copied(
                table[choice : size[CHOICES]],
                listed[segment : size[SEGMENTS]],
                segment,
                plans,
                plans_listed,
                plans_size,
            )
        begins[shape - begin + 1], plans_begins[shape - begin + 1] = size[CHOICES], plans_size[CHOICES]
    return (
        (begins, table[: size[CHOICES]], listed[: size[SEGMENTS]]),
        (plans_begins, plans[: plans_size[CHOICES]], plans_listed[: plans_size[SEGMENTS]]),
    )


@kernel
def end_of_model(fleet: Arrays, listed: Int, begin: int) -> int:
    """Where the rows of the model at `begin` end."""
    after = fleet[10][fleet[0][listed[begin]] + 1]
    low, high = begin + 1, listed.size
    while low < high:
        middle = (low + high) >> 1
        if listed[middle] < after:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def room_of(fleet: Arrays, listed: Int, fits: Int) -> int:
    """Replicas that an empty fleet has room for on some rows; `fits`: on a node, by its capacity."""
    capacity, width, room = fleet[3], fleet[4], 0
    for row in listed:
        room += width[row] * fits[capacity[row]]
    return room


@kernel
def grown(array: Int, filled: int, more: int) -> Int:
    """The array itself if it has room for `more` rows, else a larger copy."""
    if filled + more <= array.shape[0]:
        return array
    larger = np.empty((2 * array.shape[0] + more, array.shape[1]), dtype=np.int64)
    larger[:filled] = array[:filled]
    return larger


@kernel
def list_segment(listed: Int, size: Int, starts: Int, number: int) -> None:
    """List one more segment, by its number among those that begin at `starts`; there is room for it."""
    at = size[SEGMENTS]
    listed[at, 0], listed[at, 1] = starts[number], starts[number + 1]
    size[SEGMENTS] = at + 1


@kernel
def list_choice(table: Int, size: Int, start: int, mask: int, model: int, fabric: int, room: int) -> None:
    """List one more choice, of the segments from `start` on; there is room for it."""
    at = size[CHOICES]
    table[at, 0], table[at, 1], table[at, 2] = start, size[SEGMENTS], mask
    table[at, 3], table[at, 4], table[at, 5] = model, fabric, room
    size[CHOICES] = at + 1


@kernel
def copied(choices: Int, segments: Int, first: int, table: Int, listed: Int, size: Int) -> tuple[Int, Int]:
    """List choices and their segments once more, in other lists; `first`: where the segments began."""
    at, to = size
    table, listed = grown(table, at, choices.shape[0]), grown(listed, to, segments.shape[0])
    for i in range(choices.shape[0]):
        for column in range(6):
            table[at + i, column] = choices[i, column]
        table[at + i, 0] += to - first
        table[at + i, 1] += to - first
    for i in range(segments.shape[0]):
        listed[to + i, 0], listed[to + i, 1] = segments[i, 0], segments[i, 1]
    size[CHOICES], size[SEGMENTS] = at + choices.shape[0], to + segments.shape[0]
    return table, listed


@kernel
def whole_part(fleet: Arrays, part: Int, listed: Int, size: Int) -> Int:
    """The segments of a part anywhere: of each model by site if they are few, else the model's own."""
    model, site_of, at_model, at_site = fleet[0], fleet[5], fleet[7], fleet[8]
    begin = 0
    while begin < part.size:
        end, count, before = end_of_model(fleet, part, begin), 0, size[SEGMENTS]
        listed = grown(listed, before, FEW_SEGMENTS + 1)
        for i in range(begin, end):
            if i == begin or site_of[part[i]] != site_of[part[i - 1]]:
                count += 1
                if count > FEW_SEGMENTS:
                    break
                list_segment(listed, size, at_site, site_of[part[i]])
        if count > FEW_SEGMENTS:
            size[SEGMENTS] = before
            list_segment(listed, size, at_model, model[part[begin]])
        begin = end
    return listed


@kernel
def by_fabric(
    fleet: Arrays, part: Int, want: Int, model: int, fits: Int, spots: Arrays, limits: int, sites: int, table: Int,
    listed: Int, size: Int,
) -> tuple[Int, Int]:  # fmt: skip
    """A choice for every fabric that can hold the gang.

    Where a fabric spans several sites and RTTs are limited: one for each of its sites and those near it.
    `spots`, scratch: room by fabric (0 between calls), fabrics of the part; by fabric the first and last place in
    the part, and whether it spans sites.
    """
    site, fabric, capacity, width, fabric_of, at_fabric = *fleet[1:5], fleet[6], fleet[9]
    room_at, present, begin, end, several = spots
    count = 0
    for i in range(part.size):
        row = part[i]
        on = fabric[row]
        if room_at[on] == 0:
            present[count], begin[on], several[on] = on, i, False
            count += 1
        else:
            several[on] |= site[row] != site[part[begin[on]]]
        end[on] = i + 1
        room_at[on] += width[row] * fits[capacity[row]]
    for on in np.sort(present[:count]):
        room = room_at[on]
        room_at[on] = 0
        if room < want[G_NEED]:
            continue
        masked, last = several[on] and want[G_LIMIT] < limits, -1
        for i in range(begin[on], end[on] if masked else begin[on] + 1):
            if fabric[part[i]] != on or site[part[i]] == last:
                continue
            last, start = site[part[i]], size[SEGMENTS]
            table, listed = grown(table, size[CHOICES], 1), grown(listed, start, end[on] - begin[on])
            for row in part[begin[on] : end[on] if model < 0 else begin[on] + 1]:
                number = fabric_of[row]
                if fabric[row] == on and (
                    size[SEGMENTS] == start or listed[size[SEGMENTS] - 1, 0] != at_fabric[number]
                ):
                    list_segment(listed, size, at_fabric, number)
            mask = want[G_LIMIT] * sites + last if masked else -1
            list_choice(table, size, start, mask, model, on, room)
    return table, listed


@kernel
def by_nearness(
    fleet: Arrays, near: Arrays, want: Int, model: int, key: int, ends: Arrays, chains: Arrays, done: Int,
    table: Int, listed: Int, size: Int,
) -> tuple[Int, Int]:  # fmt: skip
    """A choice for every mask of sites that can hold the gang, each of several equal masks once.

    `ends`, `chains`: of the part, see `chain_segments`; `done`: for each mask the `key` of the last part that has
    it.
    """
    at_model, at_site = fleet[7], fleet[8]
    masks, same, near_first, near_sites = near
    room_at, head, links_at, present, next_link, segment_of, models = chains
    with_room = present[: ends[0]]
    for site in with_room:
        mask = want[G_LIMIT] * masks.shape[1] + site
        if done[same[mask]] == key:
            continue
        around, allowed, room, links = near_sites[near_first[mask] : near_first[mask + 1]], masks[mask], 0, 0
        if around.size > with_room.size:
            around = with_room
        for other in around:
            if allowed[other]:
                room += room_at[other]
                links += links_at[other]
        if room < want[G_NEED]:
            continue
        done[same[mask]], start = key, size[SEGMENTS]
        table, listed = grown(table, size[CHOICES], 1), grown(listed, start, max(links, ends[1]))
        if links > CLOSE_SEGMENTS:
            for i in range(ends[1]):
                list_segment(listed, size, at_model, models[i])
        else:
            for other in around:
                link = head[other] if allowed[other] else -1
                while link >= 0:
                    list_segment(listed, size, at_site, segment_of[link])
                    link = next_link[link]
        list_choice(table, size, start, mask, model, -1, room)
    return table, listed


@kernel
def chain_segments(fleet: Arrays, part: Int, fits: Int, chains: Arrays) -> tuple[int, int]:
    """Chain the segments of a part by site, add up room by site, and list its sites and models; how many of both.

    `chains`, scratch: by site room, first link and links (0, -1 and 0 between calls), sites with room, ascending;
    by link the next one and its segment; models.
    """
    model_of, site_of_row, capacity, width, site_of = fleet[0], fleet[1], fleet[3], fleet[4], fleet[5]
    room_at, head, links_at, present, next_link, segment_of, models = chains
    sites, links, count, previous, model_before = 0, 0, 0, -1, -1
    for row in part:
        site = site_of_row[row]
        if site_of[row] != previous:
            previous = site_of[row]
            if head[site] < 0:
                present[sites] = site
                sites += 1
            segment_of[links], next_link[links], head[site] = previous, head[site], links
            links_at[site] += 1
            links += 1
        room_at[site] += width[row] * fits[capacity[row]]
        if model_of[row] != model_before:
            model_before = model_of[row]
            models[count] = model_before
            count += 1
    present[:sites] = np.sort(present[:sites])
    return sites, count


@kernel
def unchain(chains: Arrays, sites: int) -> None:
    """Leave the scratch of `chain_segments` as it was."""
    room_at, head, links_at, present = chains[:4]
    for site in present[:sites]:
        room_at[site], head[site], links_at[site] = 0, -1, 0
