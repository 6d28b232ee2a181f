"""Gangs of several shapes in mixed order, placed one after another: each finds taken what those before it took.

The answer equals placing them one by one with `Placer.place`. Shapes without a GPU model in common cannot meet:
each such family is placed by itself, and one of a single shape in one call (`solvers.turns`). In a family of
several shapes the order is kept; each shape remembers what its walks found out, but of pools that others took of.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.placement import NO_RATE, Demand, Gangs, Placer, filters_of
from solvers.priced_pools import PricedPools
from solvers.turns import describe_slots, move_cells, place_run, places_of, take_slots
from solvers.walk import UNKNOWN

Int = NDArray[np.int64]
Shape = tuple[Placer, Demand]


def place_mixed(shapes: Sequence[Shape], shape_of: Int, replicas: Int) -> Gangs:
    """Place gangs of `replicas` (gangs,) of the shapes `shape_of` (gangs,), until one finds no place.

    Each is what its placer's `place` gives once the ones before are taken; nothing is taken in the end. Demands as
    for `Placer.place_many`.
    """
    shapes, shape_of = _told_apart(shapes, shape_of)
    parts, ends = [], shape_of.size
    for family in _families([demand for _, demand in shapes]):
        places = np.flatnonzero(np.isin(shape_of, family))
        if not places.size:  # of a shape that only later gangs have, which are not asked for any more
            continue
        if len(family) == 1:
            placer, demand = shapes[family[0]]
            found = placer.place_many(demand, replicas[places])
        else:
            found = _Family([shapes[shape] for shape in family]).place(
                np.searchsorted(family, shape_of[places]), replicas[places]
            )
        if found.rates.size < places.size:
            ends = min(ends, int(places[found.rates.size]))
        parts.append((places[: found.rates.size], found))
    return _in_order(parts, ends)


def _told_apart(shapes: Sequence[Shape], shape_of: Int) -> tuple[list[Shape], Int]:
    """The shapes that a placer can tell apart: not those that differ in what its prices do not depend on."""
    numbers: dict[object, int] = {}
    each = []
    for placer, demand in shapes:
        arrays = (column.tobytes() for column in (demand.models, demand.site_ok, demand.supplier_ok))
        seen = (
            id(placer),
            demand.gpus_per_replica,
            demand.one_model,
            *arrays,
            *filters_of(demand, demand.site_ok)[2:],
        )
        each.append(numbers.setdefault(seen, len(numbers)))
    return [shapes[each.index(number)] for number in numbers.values()], np.array(each)[shape_of]


def _families(demands: Sequence[Demand]) -> list[list[int]]:
    """The shapes, those together that a GPU model joins; each family in ascending order."""
    families: list[tuple[set[int], list[int]]] = []
    for shape, demand in enumerate(demands):
        models, own = set(demand.models.tolist()), [shape]
        for family in [each for each in families if each[0] & models]:
            families.remove(family)
            models, own = models | family[0], family[1] + own
        families.append((models, sorted(own)))
    return [own for _, own in families]


class _Walker:
    """One shape: what its walks have found out. `seen`: runs of its family up to which it knows what they took."""

    def __init__(self, placer: Placer, demand: Demand) -> None:
        options, pools = placer.options(demand), placer.pools.table.shape[0]
        self.supply, self.seen = placer.supply, 0
        own = (np.empty(pools, dtype=each.dtype) for each in placer.work[:5])
        self._work: Arrays = (*own, *placer.work[5:])
        self._walk = options.listed, options.first, options.last, demand.gpus_per_replica
        self._filters = filters_of(demand, demand.site_ok)
        self._known = np.full(options.listed.size, UNKNOWN, dtype=np.int64), places_of(pools, *self._walk[:3])

    def place(self, replicas: Int, touched: Int) -> tuple[Int, Int, Int]:
        """As `place_run`."""
        return place_run(
            self.supply, self._filters, self._work, *self._walk, replicas, NO_RATE, *self._known, touched
        )


class _Family:
    """Shapes that may want the same GPUs."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        models = np.unique(np.concatenate([demand.models for _, demand in shapes]))
        for placer, _ in shapes:
            if isinstance(placer.pools, PricedPools):
                placer.pools.show(models)
        self._node = shapes[0][0].pools.node
        self._walkers = [_Walker(*shape) for shape in shapes]
        self._views = {id(walker.supply[9]): walker.supply for walker in self._walkers}
        self._runs: list[tuple[_Walker, Int, Int]] = []

    def place(self, shape_of: Int, replicas: Int) -> Gangs:
        """As `place_mixed`."""
        changes = np.flatnonzero(np.diff(shape_of)) + 1 if len(self._views) == 1 else np.arange(1, shape_of.size)
        sizes = []
        for begin, end in pairwise([0, *changes.tolist(), shape_of.size]):
            walker = self._walkers[shape_of[begin]]
            sizes.append(self._run(walker, replicas[begin:end]))
            if sizes[-1].shape[0] < end - begin:
                break
        slots_of, gpus_of = [run[1] for run in self._runs], [run[2] for run in self._runs]
        if len(self._views) == 1:
            self._runs = [(self._walkers[0], np.concatenate(slots_of), np.concatenate(gpus_of))]
        for walker, slots, gpus in reversed(self._runs):
            take_slots(walker.supply, slots, gpus, -1)
            self._follow(walker, slots, gpus, -1)
        described = [describe_slots(walker.supply, self._node, slots) for walker, slots, _ in self._runs]
        nodes, prices, markets = (np.concatenate(columns) for columns in zip(*described, strict=True))
        rates, broken, counts = np.concatenate(sizes).T.copy()
        return Gangs(rates, broken, counts, nodes, np.concatenate(gpus_of), prices, markets)

    def _run(self, walker: _Walker, replicas: Int) -> Int:
        others = [walker.supply[11][slots] for _, slots, _ in self._runs[walker.seen :]]
        size, slots, gpus = walker.place(replicas, np.concatenate(others) if others else walker.supply[11][:0])
        self._follow(walker, slots, gpus, 1)
        self._runs.append((walker, slots, gpus))
        walker.seen = len(self._runs)
        return size

    def _follow(self, walker: _Walker, slots: Int, gpus: Int, sign: int) -> None:
        """Let other prices know what was taken (1) or given back (-1)."""
        for view in self._views.values():
            if view[9] is not walker.supply[9]:
                move_cells(view[0], view[9], view[11], view[5], slots, gpus, sign)


def _in_order(parts: Sequence[tuple[Int, Gangs]], ends: int) -> Gangs:
    """The gangs before `ends` of some families in one; `parts`: where each stands, and they."""
    if len(parts) == 1:
        return parts[0][1]
    gangs = Gangs(*(np.concatenate(columns) for columns in zip(*(found for _, found in parts), strict=True)))
    order = np.argsort(np.concatenate([places for places, _ in parts]))[:ends]
    rows = rows_of(gangs.node_counts, order)
    return Gangs(*(column[order] for column in gangs[:3]), *(column[rows] for column in gangs[3:]))


def rows_of(counts: Int, order: Int) -> Int:
    """The rows of some, one after another, if each has `counts` rows."""
    begins, chosen = counts.cumsum() - counts, counts[order]
    ends = chosen.cumsum()
    return np.repeat(begins[order] - ends + chosen, chosen) + np.arange(int(chosen.sum()))
