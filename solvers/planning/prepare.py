"""Everything of a problem that does not depend on prices, laid out for the kernels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning.choices import (
    C_FIRST,
    C_LAST,
    Choices,
    Segments,
    choices_of,
    cliques,
    segments_of,
    sites_of,
    stars,
    walk_by,
)
from solvers.planning.fold import CAPACITY, FABRIC, MODEL, SITE, SUPPLIER, Rows, Shapes, fold, shapes_of
from solvers.planning.places import NOT_KEPT, blocks
from solvers.planning.problem import NO_CARD, UNSHARED, Problem
from solvers.planning.standing import Standing, standing_of

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folded problem. `capacity`, `ask` (slots,); `slot_of` (nodes,), -1 for nodes that can give nothing.

    `room`: what an empty fleet can give, as kernels take it: `capacity`, CPU and memory (slots,), thousandths left
    on shared cards (slots · cards,); all but the first are empty if no gang has needs beside whole GPUs.

    `relaxed`: choices for bounds; `placed`: choices for plans; they differ only for gangs that limit the RTT
    between their nodes (stars and cliques of sites). `value` (gangs,) float64: worth of the open part, micro-USD
    per hour: the asks of pinned GPUs are taken off, and settled gangs have 0. `constant`: what settled gangs add
    to W and to D. `surcharge` (gangs,): the cost of moving all open GPUs, 0 for what does not run.
    """

    standing: Standing
    rows: Rows
    shapes: Shapes
    segments: Segments
    relaxed: Choices
    placed: Choices
    capacity: Int
    room: Arrays
    ask: Int
    slot_of: Int
    value: Float
    constant: int
    surcharge: Int
    gangs: Arrays
    supply: Arrays
    most_segments: int
    """Of one choice."""
    segment_rows: Arrays
    """(slots, first (walk,), rows, end (walk,)): rows of the segment that begins at a walk position."""

    @property
    def problem(self) -> Problem:
        """The problem with gangs reduced to what is not pinned."""
        return self.standing.problem

    def shape_arrays(self, choices: Choices) -> Arrays:
        """The `shapes` argument of `solvers.planning.cheapest.cheapest`."""
        return choices.first, choices.table, choices.segments, choices.masks, self.shapes.bits

    def walk(self, price: Float) -> Arrays:
        """The `walk` argument for slot prices."""
        walk = walk_by(price, self.rows, self.segments)
        return walk.slot, walk.row, walk.place, *blocks(walk.slot.size), *NOT_KEPT

    def work(self) -> Arrays:
        """Fresh working arrays of one thread."""
        slots = 2 * self.rows.node.size + 2
        suppliers = self.problem.supplier_sets.shape[1]
        kept = int(np.diff(self.gangs[4]).max(initial=0))
        return (
            *(np.empty(slots, dtype=np.int64) for _ in range(4)),
            np.zeros(suppliers, dtype=np.int64),
            np.empty(self.most_segments, dtype=np.int64),
            np.empty(kept, dtype=np.int64),
        )


def prepare(problem: Problem) -> Prepared:
    """Fold the problem and list the choices of every shape."""
    standing = standing_of(problem)
    problem = standing.problem
    gangs = problem.gangs
    limits = np.unique(gangs.max_cluster_rtt_ms)
    finite = limits[np.isfinite(limits)]
    with ThreadPoolExecutor(1) as beside:
        close = beside.submit(close_sites, problem, finite)
        rows = fold(problem)
        shapes = shapes_of(problem, rows, finite, standing.only_fabric)
        segments = segments_of(rows)
        star, clique = close.result()
    slot_of = np.full(problem.capacity.size, -1, dtype=np.int64)
    slot_of[rows.node] = np.arange(rows.node.size)
    everyone = np.arange(gangs.replicas.size)
    move_cost = np.full(everyone.size, problem.move_cost_micro_usd)
    surcharge = np.where(standing.runs & standing.open, gangs.money(everyone, gangs.gpus, move_cost), 0)
    worth = gangs.money(everyone, problem_gpus(problem, standing), gangs.value_micro_usd) - standing.pinned_ask
    relaxed, placed = choices_of(rows, shapes, segments, star, clique, finite.size)
    return Prepared(
        standing=standing,
        rows=rows,
        shapes=shapes,
        segments=segments,
        relaxed=relaxed,
        placed=placed,
        capacity=_column(rows, CAPACITY),
        room=_room(problem, rows),
        ask=rows.ask,
        slot_of=slot_of,
        value=np.where(standing.open, worth, 0).astype(float),
        constant=int(worth[~standing.open].sum()),
        surcharge=surcharge,
        gangs=_gang_arrays(standing, shapes.of_gang, slot_of, surcharge),
        most_segments=max(most_segments(relaxed), most_segments(placed)),
        segment_rows=segment_rows(rows, segments),
        supply=(rows.row_of, *(_column(rows, c) for c in (SITE, SUPPLIER, MODEL, FABRIC))),
    )


def close_sites(problem: Problem, limits_ms: Float) -> tuple[Arrays, Arrays]:
    """(stars, cliques) of the sites for each limit, as `sites_of` gives them."""
    sites = problem.site_sets.shape[1]
    star = stars(problem.distances, limits_ms, sites)
    # Without parts nobody can use a shared card, and no plan may depend on it.
    left = problem.shared_left() if problem.milli > 1 else np.zeros_like(problem.capacity)
    rooms = (np.bincount(problem.nodes.site, weights=each, minlength=sites) for each in (problem.capacity, left))
    return sites_of(star), sites_of(cliques(problem.distances, limits_ms, star, *rooms))


def problem_gpus(problem: Problem, standing: Standing) -> Int:
    """GPUs of each whole gang, pinned ones included."""
    running = problem.running
    pinned = np.bincount(
        running.request[standing.pinned], weights=running.gpus[standing.pinned], minlength=problem.gangs.gpus.size
    )
    return problem.gangs.gpus + pinned.astype(np.int64)


def most_segments(choices: Choices) -> int:
    """The most that one choice joins, at least 1."""
    return int((choices.table[:, C_LAST] - choices.table[:, C_FIRST]).max(initial=1))


def _column(rows: Rows, column: int) -> Int:
    return np.ascontiguousarray(rows.table[rows.row_of, column])


def _gang_arrays(standing: Standing, shape_of: Int, slot_of: Int, surcharge: Int) -> Arrays:
    """The `gangs` argument of `cheapest`: see there."""
    problem, gangs, running = standing.problem, standing.problem.gangs, standing.problem.running
    everyone = np.arange(gangs.replicas.size + 1)
    kept, pinned = standing.kept, standing.pinned
    return (
        gangs.replicas,
        gangs.gpus_per_replica,
        shape_of,
        gangs.max_gpus_per_supplier,
        np.searchsorted(running.request[kept], everyone),
        slot_of[running.node[kept]],
        running.gpus[kept] // gangs.gpus_per_replica[running.request[kept]],
        float(problem.move_cost_micro_usd),
        surcharge.astype(float),
        np.searchsorted(running.request[pinned], everyone),
        problem.nodes.supplier[running.node[pinned]],
        running.gpus[pinned],
        *_needs(standing),
    )


def _needs(standing: Standing) -> Arrays:
    """The last of the `gangs` argument of `cheapest`: CPU, memory, thousandths, and the cards of kept rows."""
    needs, running = standing.problem.gangs.needs, standing.problem.running
    if needs is None:
        return tuple(np.empty(0, dtype=np.int64) for _ in range(4))
    card = np.full(standing.kept.size, NO_CARD) if running.card is None else running.card[standing.kept]
    return needs.cpu_milli, needs.memory_mib, needs.gpu_milli, card


def _room(problem: Problem, rows: Rows) -> Arrays:
    """See `Prepared.room`."""
    capacity, spare = _column(rows, CAPACITY), problem.spare
    if spare is None:
        return capacity, *(np.empty(0, dtype=np.int64) for _ in range(3))
    left = spare.left if problem.milli > 1 else np.full((spare.left.shape[0], 0), UNSHARED)
    return capacity, *(
        np.ascontiguousarray(column[rows.node]).ravel() for column in (spare.cpu_milli, spare.memory_mib, left)
    )


def segment_rows(rows: Rows, segments: Segments) -> Arrays:
    """The rows of every segment, found by where it begins in a walk."""
    on = np.flatnonzero(segments.fabric_of_row >= 0)
    by_fabric = on[np.argsort(segments.fabric_of_row[on], kind="stable")]
    listed = np.concatenate([np.arange(rows.table.shape[0]), by_fabric])
    count = rows.table.shape[0]
    size = int(segments.fabric[-1]) + 1
    first, end = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for begin, of_row, base, ordered in (
        (segments.fabric, segments.fabric_of_row, count, by_fabric),
        (segments.site, segments.site_of_row, 0, np.arange(count)),
    ):
        starts = np.searchsorted(of_row[ordered], np.arange(begin.size))
        first[begin[:-1]], end[begin[:-1]] = base + starts[:-1], base + starts[1:]
    first[segments.model[:-1]] = np.minimum(rows.model_start[:-1], count - 1)
    return rows.node.size, first, listed, end
