"""One model's mixed-integer program, for SciPy's HiGHS.

max  Σ_i worth_i Σ_k y_ik − Σ_ra ask_ra t_ra
Σ_r x_ir = n_i Σ_k y_ik,  Σ_k y_ik <= 1,  y binary            whole, in one choice
Σ_{r in c} x_ir <= n_i Σ_{k has c} y_ik                       inside it (c: rows alike to the choices)
x_ir <= room_r Σ_{k has r} y_ik  where room_r < n_i           no row gives a part of a gang more than it has
Σ_r x_ir <= n_i                                               divisible gangs instead of the four above
Σ_i x_ir <= Σ_a t_ra,  t_ra <= GPUs of row r at ask a         supply
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stronger_bound.offers import Offer, merged_rows
from solvers.planning.prepare import Prepared

Int = NDArray[np.int64]
Float = NDArray[np.float64]
MICRO_USD_PER_USD = 1e6


@dataclass(frozen=True, slots=True)
class Program:
    """Maximise `objective`·v (USD per hour), `lower` <= matrix·v <= `upper`, 0 <= v <= `most`.

    `entries`: (constraint, variable, coefficient) columns of the matrix; `integral` (variables,).
    """

    objective: Float
    most: Float
    integral: NDArray[np.bool_]
    entries: tuple[Int, Int, Float]
    lower: Float
    upper: Float


def program_of(prepared: Prepared, model: int, offers: list[Offer]) -> Program:
    """The program of a model. Variables: each offer's x then y, then the steps of supply."""
    first, last = (int(row) for row in prepared.rows.model_start[model : model + 2])
    number = merged_rows(offers, first, last)
    begin, end = prepared.rows.start[first], prepared.rows.start[last]
    row_of_slot = number[prepared.rows.row_of[begin:end] - first]
    room = np.bincount(row_of_slot, prepared.capacity[begin:end]).astype(np.float64)
    build = _Builder([[] for _ in range(room.size)])
    for offer in offers:
        rows, at = np.unique(number[offer.rows - first], return_index=True)
        build.add_offer(offer, rows, at, room)
    order = np.lexsort((prepared.ask[begin:end], row_of_slot))
    for row, slots in enumerate(np.split(begin + order, np.cumsum(np.bincount(row_of_slot))[:-1])):
        build.add_supply(row, prepared.ask[slots], prepared.capacity[slots])
    return build.program()


class _Builder:
    """Collects variables and constraints. `users[r]`: the x of row r."""

    def __init__(self, users: list[list[int]]) -> None:
        self.users = users
        self.columns: list[tuple[float, float, bool]] = []
        self.bounds: list[tuple[float, float]] = []
        self.entries: list[tuple[int, int, float]] = []

    def variable(self, objective: float, most: float, integral: bool = False) -> int:
        self.columns.append((objective, most, integral))
        return len(self.columns) - 1

    def constrain(self, terms: Iterable[tuple[Iterable[int], float]], lower: float, upper: float) -> None:
        row = len(self.bounds)
        self.entries.extend((row, variable, weight) for variables, weight in terms for variable in variables)
        self.bounds.append((lower, upper))

    def add_offer(self, offer: Offer, rows: Int, at: Int, room: Float) -> None:
        takes = [
            self.variable(pays, min(offer.gpus, room[row])) for pays, row in zip(offer.each[at], rows, strict=True)
        ]
        groups = offer.groups[:, at]
        for take, row in zip(takes, rows, strict=True):
            self.users[row].append(take)
        if not len(groups):
            self.constrain([(takes, 1.0)], -np.inf, offer.gpus)
            return
        chosen = [self.variable(offer.worth, 1.0, integral=True) for _ in groups]
        self.constrain([(takes, 1.0), (chosen, -offer.gpus)], 0.0, 0.0)
        if len(groups) > 1:
            self.constrain([(chosen, 1.0)], -np.inf, 1.0)
            self._keep_inside(offer, takes, chosen, groups)
        for take, row, has in zip(takes, rows, groups.T, strict=True):
            if room[row] < offer.gpus:
                inside = [chosen[k] for k in np.flatnonzero(has)]
                self.constrain([([take], 1.0), (inside, -room[row])], -np.inf, 0.0)

    def _keep_inside(self, offer: Offer, takes: list[int], chosen: list[int], groups: NDArray[np.bool_]) -> None:
        kinds, kind = np.unique(groups, axis=1, return_inverse=True)
        for number, has in enumerate(kinds.T):
            mine = [takes[i] for i in np.flatnonzero(kind.ravel() == number)]
            inside = [chosen[k] for k in np.flatnonzero(has)]
            self.constrain([(mine, 1.0), (inside, -offer.gpus)], -np.inf, 0.0)

    def add_supply(self, row: int, asks: Int, capacity: Int) -> None:
        levels, at = np.unique(asks, return_index=True)
        gpus = np.add.reduceat(capacity, at)
        steps = [self.variable(-float(ask), float(most)) for ask, most in zip(levels, gpus, strict=True)]
        self.constrain([(self.users[row], 1.0), (steps, -1.0)], -np.inf, 0.0)

    def program(self) -> Program:
        objective, most, integral = (np.array(column) for column in zip(*self.columns, strict=True))
        lower, upper = (np.array(column) for column in zip(*self.bounds, strict=True))
        row, variable, weight = (np.array(column) for column in zip(*self.entries, strict=True))
        return Program(objective / MICRO_USD_PER_USD, most, integral, (row, variable, weight), lower, upper)


RELATIVE_GAP = 1e-4
TOLERANCE = 1e-6
"""Of HiGHS: rows may be overfilled by so little, and binaries be off by as much."""


def dual_bound(program: Program, limit_s: float) -> float | None:
    """What HiGHS proves of the optimum within the time, USD per hour; None if it has nothing."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    row, variable, weight = program.entries
    matrix: Any = csr_matrix((weight, (row, variable)), shape=(program.lower.size, program.most.size))
    answer = milp(
        -program.objective,
        integrality=program.integral,
        bounds=Bounds(0.0, program.most),
        constraints=LinearConstraint(matrix, program.lower, program.upper),
        options={"time_limit": limit_s, "mip_rel_gap": RELATIVE_GAP},
    )
    proven = answer.mip_dual_bound if program.integral.any() else answer.fun if answer.success else None
    return None if proven is None or not np.isfinite(proven) else -float(proven) * (1 + TOLERANCE)
