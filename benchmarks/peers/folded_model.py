"""The joint problem as one mixed-integer program over folded rows, and the way back to nodes.

    max  Σ_i value_i Σ_k y_ik − Σ_ra ask_ra t_ra
    Σ_r x_ir = replicas_i Σ_k y_ik,  Σ_k y_ik <= 1             a gang is whole, in one of its choices
    Σ_{r in c} x_ir <= replicas_i Σ_{k has c} y_ik              and inside it (c: rows alike to the choices)
    Σ_{r of supplier} g_i x_ir <= most_i                        supplier share
    Σ_i g_i x_ir <= Σ_a t_ra,  t_ra <= GPUs of row r at ask a   supply, by ask
    Σ_{g_i >= G} g_i x_ir <= nodes_r ⌊capacity_r / G⌋ G         replicas fit into nodes (sizes divide each other)

A choice is one model, fabric or set of close sites. A gang keeps its ROWS_MOST rows of least price in the relaxed
market: 1 of 7 million pairs at 10,000 requests. The optimum of this program may therefore lie below the true one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.greedy import by_request
from benchmarks.peers.price_then_greedy import relaxed_prices
from solvers.planning.choices import C_FIRST, C_LAST, C_MASK
from solvers.planning.fold import CAPACITY, SITE, SUPPLIER
from solvers.planning.moves import Placed
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import NO_SHARE, Problem

Int = NDArray[np.int64]
Float = NDArray[np.float64]

ROWS_MOST = 200
UNBOUNDED = np.inf


@dataclass(frozen=True, slots=True)
class FoldedModel:
    """Maximise `objective`·v, `lower` <= `matrix`·v <= `upper` (SciPy CSR), 0 <= v <= `most`, all v integral.

    The first variables are the x: replicas of `gang` on `row`, columns of shape (pairs,).
    """

    prepared: Prepared
    gang: Int
    row: Int
    objective: Float
    most: Float
    matrix: Any
    lower: Float
    upper: Float

    def placed(self, solution: Float) -> Placed:
        """Place replicas, large ones first, on the cheapest nodes of their row; gangs left torn are dropped."""
        prepared, gangs = self.prepared, self.prepared.problem.gangs
        replicas = np.rint(solution[: self.gang.size]).astype(np.int64)
        free, out = prepared.capacity.copy(), []
        used = np.flatnonzero(replicas > 0)
        for pair in used[np.argsort(-gangs.gpus_per_replica[self.gang[used]], kind="stable")]:
            g, left = int(gangs.gpus_per_replica[self.gang[pair]]), int(replicas[pair])
            for slot in range(prepared.rows.start[self.row[pair]], prepared.rows.start[self.row[pair] + 1]):
                take = min(left, int(free[slot]) // g)
                if take > 0:
                    out.append((int(self.gang[pair]), slot, take * g))
                    free[slot] -= take * g
                    left -= take
        rows = np.array(out, dtype=np.int64).reshape(-1, 3)
        whole = np.bincount(rows[:, 0], weights=rows[:, 2], minlength=gangs.gpus.size) == gangs.gpus
        return by_request(prepared, *rows[whole[rows[:, 0]]].T)


def folded_model(problem: Problem) -> FoldedModel:
    """The program of a problem in which nothing runs."""
    from scipy.sparse import csr_matrix

    prepared = prepare(problem)
    rows = prepared.rows
    price = np.maximum(rows.ask[rows.start[:-1]], relaxed_prices(prepared))
    kept = [_kept_rows(prepared, gang, price) for gang in range(problem.gangs.replicas.size)]
    gang = np.repeat(np.arange(len(kept)), [part.size for part in kept])
    row = np.concatenate(kept)
    first = np.append(0, np.cumsum([part.size for part in kept]))
    program = _Program(problem, gang, row)
    program.add_supply(prepared)
    for number, part in enumerate(kept):
        if part.size:
            program.add_gang(prepared, number, part, int(first[number]))
    shape = (len(program.lower), len(program.objective))
    matrix = csr_matrix((program.joined(2), (program.joined(0), program.joined(1))), shape=shape)
    return FoldedModel(
        prepared,
        gang,
        row,
        np.array(program.objective),
        np.array(program.most),
        matrix,
        np.array(program.lower),
        np.array(program.upper),
    )


def _kept_rows(prepared: Prepared, gang: int, price: Float) -> Int:
    shape = prepared.shapes.of_gang[gang]
    mine = prepared.shapes.rows[prepared.shapes.first[shape] : prepared.shapes.first[shape + 1]].astype(np.int64)
    return np.sort(mine[np.argsort(price[mine], kind="stable")[:ROWS_MOST]])


def _groups(prepared: Prepared, gang: int, rows: Int) -> NDArray[np.bool_]:
    """Which of `rows` each distinct choice of the gang may use: (choices, rows)."""
    shape, folded, walk = prepared.shapes.of_gang[gang], prepared.rows, prepared.segments
    choices = prepared.placed.table[prepared.placed.first[shape] : prepared.placed.first[shape + 1]]
    if not choices.size:
        return np.empty((0, rows.size), dtype=bool)
    begin, end = prepared.placed.segments[choices[0, C_FIRST] : choices[-1, C_LAST]].T[:, :, None]
    # A row stands in a walk three times: by model, by site, and by fabric if it is on one.
    slot, fabric = folded.start[rows], walk.fabric_of_row[rows]
    on_fabric = np.where(fabric >= 0, walk.fabric[fabric], -1)
    inside = np.zeros((begin.size, rows.size), dtype=bool)
    for place in (slot, folded.node.size + slot, on_fabric):
        inside |= (begin <= place) & (place < end)
    member = np.logical_or.reduceat(inside, choices[:, C_FIRST] - choices[0, C_FIRST])
    masked = np.flatnonzero(choices[:, C_MASK] >= 0)
    member[masked] &= prepared.placed.masks[choices[masked, C_MASK]][:, folded.table[rows, SITE]]
    return _distinct(member[member.any(axis=1)])[0]


class _Program:
    """Collects variables and constraints; entries of the matrix as (constraints, variables, coefficients)."""

    def __init__(self, problem: Problem, gang: Int, row: Int) -> None:
        self.gangs, self.gang, self.row = problem.gangs, gang, row
        self.objective: list[float] = [0.0] * gang.size
        self.most: list[float] = problem.gangs.replicas[gang].tolist()
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.entries: tuple[list[Int], list[Int], list[Float]] = ([], [], [])

    def joined(self, part: int) -> Any:
        """One column of the entries."""
        return np.concatenate(self.entries[part])

    def constrain(self, parts: Iterable[tuple[Int | range, Any]], lower: float, upper: float) -> None:
        """`lower` <= Σ coefficient·variable <= `upper`; each part is (variables, coefficient or coefficients)."""
        for variables, coefficients in parts:
            index = np.asarray(variables, dtype=np.int64)
            self.entries[0].append(np.full(index.size, len(self.lower)))
            self.entries[1].append(index)
            self.entries[2].append(np.full(index.size, coefficients, dtype=np.float64))
        self.lower.append(lower)
        self.upper.append(upper)

    def variables(self, objective: list[float], most: list[float]) -> range:
        """New variables; their numbers."""
        start = len(self.objective)
        self.objective += objective
        self.most += most
        return range(start, len(self.objective))

    def add_supply(self, prepared: Prepared) -> None:
        """Steps of every row that is used, and the limits of its nodes."""
        by_row = np.argsort(self.row, kind="stable")
        used, first = np.unique(self.row[by_row], return_index=True)
        for row, pairs in zip(used, np.split(by_row, first[1:]), strict=True):
            begin, end = prepared.rows.start[row], prepared.rows.start[row + 1]
            asks, nodes = np.unique(prepared.ask[begin:end], return_counts=True)
            capacity = int(prepared.rows.table[row, CAPACITY])
            steps = self.variables((-asks.astype(float)).tolist(), (nodes * capacity).astype(float).tolist())
            sizes = self.gangs.gpus_per_replica[self.gang[pairs]]
            self.constrain([(pairs, sizes), (steps, -1.0)], -UNBOUNDED, 0.0)
            for size in np.unique(sizes):
                if capacity % size:
                    large = sizes >= size
                    room = float((end - begin) * (capacity // size) * size)
                    self.constrain([(pairs[large], sizes[large])], -UNBOUNDED, room)

    def add_gang(self, prepared: Prepared, gang: int, rows: Int, first: int) -> None:
        """Whole or absent, in one choice, within the supplier share."""
        groups = _groups(prepared, gang, rows)
        replicas, pairs = float(self.gangs.replicas[gang]), np.arange(first, first + rows.size)
        worth = float(prepared.value[gang])
        chosen = self.variables([worth] * len(groups), [1.0] * len(groups))
        self.constrain([(pairs, 1.0), (chosen, -replicas)], 0.0, 0.0)
        self.constrain([(chosen, 1.0)], -UNBOUNDED, 1.0)
        if len(groups) > 1 or not groups.all():
            for alike, inside in _classes(groups):
                self.constrain(
                    [(pairs[alike], 1.0), (np.asarray(chosen, dtype=np.int64)[inside], -replicas)], -UNBOUNDED, 0.0
                )
        most = self.gangs.max_gpus_per_supplier[gang]
        supplier = prepared.rows.table[rows, SUPPLIER]
        for one in np.unique(supplier) if most != NO_SHARE else ():
            self.constrain([(pairs[supplier == one], self.gangs.gpus_per_replica[gang])], -UNBOUNDED, float(most))


def _classes(groups: NDArray[np.bool_]) -> Iterator[tuple[Int, NDArray[np.bool_]]]:
    """(columns that are alike, which groups have them) for all columns of `groups`."""
    columns, number = _distinct(np.ascontiguousarray(groups.T))
    alike = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    return zip(alike, columns, strict=True)


def _distinct(rows: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Int]:
    """The distinct rows of a matrix, and which of them each row is: numpy.unique, faster for small matrices."""
    seen: dict[bytes, int] = {}
    number = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows], dtype=np.int64)
    return rows[np.unique(number, return_index=True)[1]], number
