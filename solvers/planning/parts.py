"""Cutting a search into parts that touch disjoint models, so that they can run at the same time.

Models are merged into families by the gangs that accept several of them, strongest ties first, while a family
stays small enough; families are dealt to the parts by size. Gangs that reach over a border wait for the next
cut: each cut draws its ties anew, seeded, so that every border is crossed soon. Of several that are drawn the most
even one is taken: a pass lasts as long as its largest part. The number of parts depends on the problem alone: one
worker and twenty find the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.planning.choices import C_MODEL, Choices
from solvers.planning.prepare import Prepared

Int = NDArray[np.int64]
GANGS_PER_PART = 5_000
MOST_PARTS = 64
DRAWS = 6
"""Cuts that are drawn for each that is taken."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which models a gang may use, `models` (gangs, models) bool, and what that means for a cut.

    `ties` (models, models): gangs that may use both. `kinds` (kinds, models) bool: what any gang may use, and
    `kind_of` (gangs,) which of these.
    """

    models: NDArray[np.bool_]
    ties: NDArray[np.float32]
    kinds: NDArray[np.bool_]
    kind_of: Int


def models_of_gangs(prepared: Prepared, choices: Choices) -> NDArray[np.bool_]:
    """The models of every gang's choices, (gangs, models)."""
    return _models_of_shapes(prepared, choices)[prepared.shapes.of_gang]


def reach_of(prepared: Prepared, choices: Choices) -> Reach:
    """The models of every gang's choices, and what a cut reads of them."""
    of_shape = _models_of_shapes(prepared, choices)
    packed = np.packbits(of_shape, axis=1)  # many times as fast to sort as the flags
    _, first, kind_of_shape = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    kinds, kind_of = of_shape[first], kind_of_shape.reshape(-1)[prepared.shapes.of_gang]
    counted = kinds.astype(np.float32)
    gangs = np.bincount(kind_of, minlength=len(kinds)).astype(np.float32)
    # Not as a product of matrices: BLAS sends every core round in circles for a hundredth of a second's work.
    return Reach(kinds[kind_of], np.einsum("k,ki,kj->ij", gangs, counted, counted), kinds, kind_of)


def _models_of_shapes(prepared: Prepared, choices: Choices) -> NDArray[np.bool_]:
    models = prepared.problem.model_sets.shape[1]
    shape_of = np.repeat(np.arange(choices.first.size - 1), np.diff(choices.first))
    reach = np.zeros((choices.first.size - 1, models), dtype=bool)
    one = choices.table[:, C_MODEL] >= 0
    reach[shape_of[one], choices.table[one, C_MODEL]] = True
    any_of_set = np.unique(shape_of[~one])
    reach[any_of_set] |= prepared.problem.model_sets[prepared.shapes.table[any_of_set, 0]]
    return reach


def cut(reach: Reach, able: NDArray[np.bool_], random: np.random.Generator) -> tuple[Int, int]:
    """(owner (gangs,), parts): the part of each gang, -1 for gangs that reach over a border or cannot be
    served.
    """
    count = int(np.count_nonzero(able))
    parts = int(min(max(2, count // GANGS_PER_PART), MOST_PARTS, max(reach.models.shape[1], 1)))
    gangs_of_kind = np.bincount(reach.kind_of[able], minlength=len(reach.kinds))
    drawn = [_owner_of_kinds(reach, parts, random) for _ in range(DRAWS)]
    best = max(drawn, key=lambda owner: _worth(owner, gangs_of_kind, parts))
    return np.where(able, best[reach.kind_of], -1), parts


def _owner_of_kinds(reach: Reach, parts: int, random: np.random.Generator) -> Int:
    """The part of each kind of gang at a cut that is drawn; -1: it reaches over a border."""
    models = len(reach.ties)
    load = np.diagonal(reach.ties)
    ties = np.triu(reach.ties, 1) * random.uniform(0.0, 1.0, (models, models))
    family, size = list(range(models)), load.tolist()
    limit = max(sum(size) / parts * 0.75, 1)
    tied = np.flatnonzero(ties)
    for tie in tied[np.argsort(-ties.ravel()[tied], kind="stable")].tolist():
        a, b = family[tie // models], family[tie % models]
        if a != b and size[a] + size[b] <= limit:
            family = [a if each == b else each for each in family]
            size[a], size[b] = size[a] + size[b], 0.0
    part_of, filled = [0] * models, [0.0] * parts
    for head in sorted(range(models), key=lambda model: -size[model]):
        part_of[head] = filled.index(min(filled))
        filled[part_of[head]] += size[head]
    part_of_model = np.array(part_of)[family]
    lowest = np.where(reach.kinds, part_of_model, parts).min(axis=1, initial=parts)
    highest = np.where(reach.kinds, part_of_model, -1).max(axis=1, initial=-1)
    return np.where(lowest == highest, lowest, -1)


def _worth(owner: Int, gangs_of_kind: Int, parts: int) -> float:
    """Of a cut: its gangs inside of parts, times how many parts of the size of the largest they would fill."""
    inside = owner >= 0
    filled = np.bincount(owner[inside], gangs_of_kind[inside], parts)
    return float(filled.sum() ** 2 / max(filled.max(), 1.0))
