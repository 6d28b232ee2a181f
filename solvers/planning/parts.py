"""Cutting a search into parts that touch disjoint models, so that they can run at the same time.

Models are merged into families by the gangs that accept several of them, strongest ties first, while a family
stays small enough; families are dealt to the parts by size. Gangs that reach over a border wait for the next
cut: each cut draws its ties anew, seeded, so that every border is crossed soon. The number of parts depends on
the problem alone: one worker and twenty find the same plan.
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


@dataclass(frozen=True, slots=True)
class Reach:
    """Which models a gang may use: `models` (gangs, models) bool, from its choices.

    `ties` (models, models): gangs that may use both.
    """

    models: NDArray[np.bool_]
    ties: NDArray[np.float32]


def reach_of(prepared: Prepared, choices: Choices) -> Reach:
    """The models of every gang's choices."""
    shapes = prepared.shapes
    models = prepared.problem.model_sets.shape[1]
    shape_of = np.repeat(np.arange(choices.first.size - 1), np.diff(choices.first))
    reach = np.zeros((choices.first.size - 1, models), dtype=bool)
    one = choices.table[:, C_MODEL] >= 0
    reach[shape_of[one], choices.table[one, C_MODEL]] = True
    any_of_set = np.unique(shape_of[~one])
    reach[any_of_set] |= prepared.problem.model_sets[shapes.table[any_of_set, 0]]
    models_of = reach[shapes.of_gang]
    counted = models_of.astype(np.float32)
    # Not as a product of matrices: BLAS sends every core round in circles for a hundredth of a second's work.
    return Reach(models_of, np.einsum("gi,gj->ij", counted, counted))


def cut(reach: Reach, able: NDArray[np.bool_], random: np.random.Generator) -> tuple[Int, int]:
    """(owner (gangs,), parts): the part of each gang, -1 for gangs that reach over a border or cannot be
    served.
    """
    models = reach.models.shape[1]
    count = int(np.count_nonzero(able))
    parts = int(min(max(2, count // GANGS_PER_PART), MOST_PARTS, max(models, 1)))
    load = np.diagonal(reach.ties)
    ties = np.triu(reach.ties, 1) * random.uniform(0.0, 1.0, (models, models))
    family, size = np.arange(models), load.astype(float)
    limit = max(load.sum() / parts * 0.75, 1)
    tied = np.flatnonzero(ties)
    for tie in tied[np.argsort(-ties.ravel()[tied], kind="stable")].tolist():
        a, b = family[tie // models], family[tie % models]
        if a != b and size[a] + size[b] <= limit:
            family[family == b] = a
            size[a], size[b] = size[a] + size[b], 0.0
    part_of, filled = np.zeros(models, dtype=np.int64), np.zeros(parts)
    for head in np.argsort(-size, kind="stable"):
        part = int(np.argmin(filled))
        part_of[family == head] = part
        filled[part] += size[head]
    owner = np.full(able.size, -1, dtype=np.int64)
    lowest = np.where(reach.models, part_of, parts).min(axis=1, initial=parts)
    highest = np.where(reach.models, part_of, -1).max(axis=1, initial=-1)
    inside = able & (lowest == highest)
    owner[inside] = lowest[inside]
    return owner, parts
