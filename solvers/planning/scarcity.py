"""Why not everybody can be served: for every refused gang a scarce set that proves itself.

Let R be a set of rows and let a gang *depend* on R if all the rows it may use lie in R. If those who depend on R
want more GPUs than R has, no plan serves them all (Hall 1935). Every violator that counts a gang contains the
rows the gang may use, so these are tried first: they are the smallest. Where others that stand there could go
elsewhere, what they may use at their own price level is taken for what they depend on: the set grows in the market
of that price, and what lies outside is dearer. Where nothing is short, what is free is too broken: the gang is
indivisible.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from solvers.planning.climb import climb
from solvers.planning.fold import Shapes
from solvers.planning.hall import dependents_of, gangs_within, own_rows
from solvers.planning.indivisible import most_replicas, rows_of
from solvers.planning.nest import Market, at_own_price, grouped, nest_of
from solvers.planning.prepare import Prepared

Int = NDArray[np.int64]


class Kind(IntEnum):
    """HALL: its gangs want more than there is. INDIVISIBLE: what is free is too broken for a whole gang."""

    HALL = 0
    INDIVISIBLE = 1


@dataclass(frozen=True, slots=True)
class ScarceSet:
    """What is short: `wanted_gpus` > `existing_gpus`; of HALL in units of `Problem.milli`.

    HALL: the `gangs`, served and refused, want `wanted_gpus` of the `rows`. Whatever else they may use costs at
    least `elsewhere_micro_usd` per GPU-hour, -1 if there is nothing else; GPUs that they hold there are not
    counted. Existing are the GPUs of these rows but for `dearer_gpus`: free GPUs of nodes that ask more than
    `ask_limit_micro_usd`, the highest bid among the refused gangs that point here.
    INDIVISIBLE: `rows` are the best single choice of the refused gangs, which come last in `gangs`, after those
    that stand there; `existing_gpus` is what is free there within the bid in whole replicas, `wanted_gpus` the
    size of one refused gang. Only where the plan left a place unused is that not less.
    """

    kind: Kind
    gangs: Int
    rows: Int
    wanted_gpus: int
    existing_gpus: int
    dearer_gpus: int
    ask_limit_micro_usd: int
    elsewhere_micro_usd: int


# Where a set comes from: the first column of a key.
OWN_ROWS, COMPONENT, CHOICE = range(3)


def scarce_sets(market: Market, prepared: Prepared, free: Int, refused: Int) -> tuple[Int, tuple[ScarceSet, ...]]:
    """(index of the set of each refused gang, the sets); equal sets are one. `free` (slots,): whole GPUs left."""
    if not refused.size:
        return np.empty(0, dtype=np.int64), ()
    shapes = market.shapes
    # By falling bid: of the gangs that share a set, the first proves it for all.
    order = np.argsort(-market.value[refused], kind="stable")
    gangs = refused[order]
    dependents = dependents_of(market)
    with ThreadPoolExecutor(1) as beside:
        short = beside.submit(own_rows, market, dependents, gangs)
        priced, elsewhere = at_own_price(market)
        nest = nest_of(priced)
        node, in_node = climb(priced, nest, gangs)
        on_own = short.result()
    broken = (on_own < 0) & (node < 0)
    choice, replicas = most_replicas(prepared, free, gangs[broken])
    keys = np.stack([np.full(gangs.size, COMPONENT), node, np.zeros_like(node)], axis=1)
    keys[on_own >= 0] = OWN_ROWS, 0, 0
    keys[on_own >= 0, 1] = same_rows(shapes, shapes.of_gang[gangs[on_own >= 0]])
    keys[broken] = np.stack([np.full(choice.size, CHOICE), choice, replicas], axis=1)
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    of_refused = np.empty_like(index)
    of_refused[order] = index
    pointing, begin = grouped(index, gangs, first.size)

    def built(i: int) -> ScarceSet:
        source, number, replicas_free = keys[i].tolist()
        gang = int(gangs[i])
        if source == OWN_ROWS:
            rows = shapes.rows[shapes.first[number] : shapes.first[number + 1]].astype(np.int64)
            return hall(market, gangs_within(market, dependents, number), rows, int(on_own[i]), gang, -1)
        if source == COMPONENT:
            members, rows = nest.component(number)
            dearer = int(elsewhere[shapes.of_gang[members]].max())
            return hall(priced, members, rows, int(in_node[i]), gang, dearer)
        same = pointing[begin[index[i]] : begin[index[i] + 1]]
        return indivisible(market, prepared, same, number, replicas_free)

    return of_refused, tuple(built(i) for i in first.tolist())


def same_rows(shapes: Shapes, wanted: Int) -> Int:
    """For each wanted shape the first of them that has the same rows."""
    first_with: dict[bytes, int] = {}
    listed = (shapes.rows[shapes.first[shape] : shapes.first[shape + 1]].tobytes() for shape in wanted)
    return np.array(
        [first_with.setdefault(key, shape) for key, shape in zip(listed, wanted, strict=True)], dtype=int
    )


def hall(market: Market, gangs: Int, rows: Int, existing_gpus: int, refused: int, elsewhere: int) -> ScarceSet:
    """The violator of `rows`, as proved for the refused gang with the highest bid."""
    return ScarceSet(
        kind=Kind.HALL,
        gangs=gangs,
        rows=rows,
        wanted_gpus=int(market.demand[gangs].sum()),
        existing_gpus=existing_gpus,
        dearer_gpus=int(market.capacity[rows].sum()) - existing_gpus,
        ask_limit_micro_usd=int(market.value[refused]),
        elsewhere_micro_usd=elsewhere,
    )


def indivisible(market: Market, prepared: Prepared, refused: Int, choice: int, replicas: int) -> ScarceSet:
    """The best choice of refused gangs of one shape, and who stands on its rows."""
    gangs = prepared.problem.gangs
    rows = rows_of(prepared, int(market.shapes.of_gang[refused[0]]), choice)
    return ScarceSet(
        kind=Kind.INDIVISIBLE,
        gangs=np.append(market.standing_on(rows), np.sort(refused)),
        rows=rows,
        wanted_gpus=int(gangs.gpus[refused[0]]),
        existing_gpus=replicas * int(gangs.gpus_per_replica[refused[0]]),
        dearer_gpus=0,
        ask_limit_micro_usd=int(market.value[refused[0]]),
        elsewhere_micro_usd=-1,
    )
