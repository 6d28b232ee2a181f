"""Folding the fleet for a whole queue: slots, rows and shapes.

A *slot* is a live node. A *row* is a set of slots that no gang at hand can tell apart: equal in model, site,
fabric, tier, certifications, connectivity, interconnect, supplier, capacity, what is left on shared cards, and in
which of the reliabilities that gangs name it reaches. Slots stand by row, then ask, then rank; rows by model, then
site, then fabric, so that a model's rows are one range, and a site's within it. A *shape* is what decides which
rows a gang may use; equal shapes are merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel
from solvers.planning.eligible import Wanted, eligible, having_room, holding, reaching
from solvers.planning.problem import Problem
from solvers.planning.side_by_side import in_ranges

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]

CODES_MAX = 1 << 62
WIDTH_MAX = 1 << 14
"""Columns whose values span less go into a code as they are: sorting to number them took half of the folding."""

# Columns of `Rows.table`.
MODEL, SITE, FABRIC, TIER, CERTIFICATIONS, CONNECTIVITY, INTERCONNECT, SUPPLIER, CAPACITY, RELIABILITY = range(10)
LEFT = 10
"""The most thousandths on a card with an immovable part."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The folded fleet. Per slot: `node`, `ask`, `row_of`. Per row: `table` (rows, 11), `start` (rows + 1,) slots.

    RELIABILITY counts the thresholds reached. `model_start` (models + 1,): rows of each model.
    """

    node: Int
    ask: Int
    row_of: Int
    start: Int
    table: Int
    model_start: Int
    thresholds: NDArray[np.float64]


def fold(problem: Problem) -> Rows:
    """Fold the nodes with capacity into rows."""
    nodes = problem.nodes
    live = np.flatnonzero(problem.live)
    thresholds = np.unique(problem.gangs.reliability)
    columns = [
        nodes.model[live],
        nodes.site[live],
        nodes.fabric[live],
        nodes.tier[live],
        nodes.certifications[live],
        nodes.connectivity[live],
        nodes.interconnect[live],
        nodes.supplier[live],
        problem.capacity[live],
        np.searchsorted(thresholds, nodes.reliability[live], side="right"),
        np.zeros_like(live) if problem.spare is None else problem.spare.left[live].max(axis=1, initial=0),
    ]
    code = _codes(columns)
    order = np.lexsort((nodes.rank[live], nodes.ask_micro_usd[live], code))
    sorted_code = code[order]
    first = np.flatnonzero(np.diff(sorted_code, prepend=-1))
    table = np.stack([column[order[first]] for column in columns], axis=1)
    node = live[order]
    return Rows(
        node=node,
        ask=nodes.ask_micro_usd[node],
        row_of=np.cumsum(np.diff(sorted_code, prepend=-1) != 0) - 1,
        start=np.append(first, node.size),
        table=np.ascontiguousarray(table),
        model_start=np.searchsorted(table[:, MODEL], np.arange(problem.model_sets.shape[1] + 1)),
        thresholds=thresholds,
    )


def _codes(columns: list[Int]) -> Int:
    """One code per row of columns, in their lexicographic order; re-numbered before it could overflow."""
    code = np.zeros(columns[0].size, dtype=np.int64)
    size = 1
    for column in columns:
        part, width = _from_zero(column)
        if size > CODES_MAX // width:
            code = _numbered(code)
            size = int(code.max(initial=0)) + 1
        code = code * width + part
        size *= width
    return code


def _from_zero(column: Int) -> tuple[Int, int]:
    """(numbers from 0 on, in the order of the column; how many they may be)."""
    least, most = int(column.min(initial=0)), int(column.max(initial=0))
    if most - least < WIDTH_MAX:
        return column - least, most - least + 1
    part = _numbered(column)
    return part, int(part.max(initial=0)) + 1


def _numbered(column: Int) -> Int:
    numbers: Int = np.unique(column, return_inverse=True)[1]
    return numbers


@dataclass(frozen=True, slots=True)
class Shapes:
    """Distinct shapes. `of_gang` (gangs,): the shape of each gang. `table` (shapes, 15): what it asks of a row.

    Rows of shape s, ascending, are `rows[first[s]:first[s + 1]]` (int32); `bits` (shapes, words) uint64 has their
    bits. Rows that cannot hold one replica are left out.
    """

    of_gang: Int
    table: Int
    first: Int
    rows: NDArray[np.int32]
    bits: NDArray[np.uint64]


# Columns of `Shapes.table`. FABRIC_RULE: 0 any node, 1 all on one fabric. LIMIT: index of the cluster RTT limit.
G_MODELS, G_SITES, G_SUPPLIERS, G_TIER, G_CERTIFICATIONS, G_CONNECTIVITY, G_INTERCONNECT = range(7)
G_FABRIC, G_REPLICA, G_RELIABILITY, G_ONE_MODEL, G_LIMIT, G_NEED, G_ONLY_FABRIC, G_MILLI = range(7, 15)


def shapes_of(problem: Problem, rows: Rows, limits_ms: NDArray[np.float64], only_fabric: Int) -> Shapes:
    """Merge equal shapes and list the rows of each.

    `limits_ms`: the sorted distinct cluster RTT limits; `only_fabric` (gangs,): the fabric to be used, -1: any.
    """
    gangs = problem.gangs
    columns = np.stack(
        [
            gangs.model_set,
            gangs.site_set,
            gangs.supplier_set,
            gangs.tier,
            gangs.certifications,
            gangs.connectivity,
            gangs.interconnect,
            gangs.one_fabric.astype(np.int64),
            gangs.gpus_per_replica,
            np.searchsorted(rows.thresholds, gangs.reliability, side="right"),
            gangs.one_model.astype(np.int64),
            np.searchsorted(limits_ms, gangs.max_cluster_rtt_ms),
            gangs.replicas,
            only_fabric,
            np.zeros_like(only_fabric) if gangs.needs is None else gangs.needs.gpu_milli,
        ],
        axis=1,
    )
    _, chosen, of_gang = np.unique(_codes(list(columns.T)), return_index=True, return_inverse=True)
    table = np.ascontiguousarray(columns[chosen])
    bits, counts = eligible_rows(problem, rows, table)
    first = np.append(0, np.cumsum(counts))
    listed = np.empty(int(first[-1]), dtype=np.int32)
    in_ranges(counts.size, lambda begin, end: unpack(begin, end, bits, first, listed))
    return Shapes(of_gang, table, first, listed, bits)


def eligible_rows(problem: Problem, rows: Rows, shapes: Int) -> tuple[NDArray[np.uint64], Int]:
    """(bits of the rows that each shape may use, how many they are)."""
    want, have = np.ascontiguousarray(shapes.T), np.ascontiguousarray(rows.table.T)
    least = (
        (TIER, G_TIER),
        (CONNECTIVITY, G_CONNECTIVITY),
        (INTERCONNECT, G_INTERCONNECT),
        (RELIABILITY, G_RELIABILITY),
    )
    rules = [reaching(have[column], want[threshold]) for column, threshold in least]
    rules.append(having_room(have[CAPACITY], have[LEFT], want[G_REPLICA], want[G_MILLI]))
    rules.append(holding(have[CERTIFICATIONS], want[G_CERTIFICATIONS]))
    rules.append(reaching((have[FABRIC] >= 0).astype(np.int64), want[G_FABRIC]))
    wanted = Wanted(
        models=want[G_MODELS],
        sites=want[G_SITES],
        suppliers=want[G_SUPPLIERS],
        only_fabric=want[G_ONLY_FABRIC],
        sets=(problem.model_sets, problem.site_sets, problem.supplier_sets),
    )
    return eligible(have[SITE], have[SUPPLIER], have[FABRIC], rows.model_start, wanted, rules)


@kernel
def unpack(begin: int, end: int, bits: NDArray[np.uint64], first: Int, listed: NDArray[np.int32]) -> None:
    """List the set bits of each shape in [begin, end) from `first[shape]` on; `listed` is filled."""
    for shape in range(begin, end):
        at = first[shape]
        for word in range(bits.shape[1]):
            left = bits[shape, word]
            bit = 0
            while left:
                while not left & np.uint64(1):
                    left >>= np.uint64(1)
                    bit += 1
                listed[at] = word * 64 + bit
                at += 1
                left >>= np.uint64(1)
                bit += 1
