"""The market split by GPU model: which gangs stand between models, and what each model's share of D is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.planning.choices import C_MODEL
from solvers.planning.dual import Dual
from solvers.planning.fold import MODEL
from solvers.planning.moves import Placements
from solvers.planning.parts import reach_of
from solvers.planning.passes import able_gangs
from solvers.planning.prepare import Prepared
from solvers.planning.problem import Problem
from solvers.planning.relaxed_market import price

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Split:
    """Money is micro-USD per hour. `reach` (gangs, models): able gangs and the models they may use.

    `paid` (gangs,): λ, 0 unless a gang takes one of several models. `divided` (gangs,): may mix models; worth
    `unit_worth` (gangs,) a GPU. `share` (models,): S_b. `settled`: what no model's program decides.
    """

    prepared: Prepared
    dual: Dual
    reach: Flags
    paid: Float
    divided: Flags
    unit_worth: Float
    share: Float
    settled: float

    @property
    def bound(self) -> float:
        """Σ S_b + settled: about D, a little above it where divided gangs are."""
        return float(self.share.sum()) + self.settled


def split_of(prepared: Prepared) -> Split:
    """Split a prepared problem in which nothing runs."""
    assert not prepared.standing.runs.any(), "what runs is not part of the split"
    dual, gangs = price(prepared).dual, prepared.problem.gangs
    reach = reach_of(prepared, prepared.relaxed).models & able_gangs(prepared, prepared.relaxed)[:, None]
    surplus = np.where(reach.any(axis=1), np.maximum(prepared.value - dual.minimum, 0.0), 0.0)
    between = reach.sum(axis=1) > 1
    divided = between & _mixes(prepared)
    unit_worth = np.zeros(gangs.gpus.size)
    model_of_slot = prepared.rows.table[prepared.rows.row_of, MODEL]
    share = np.bincount(
        model_of_slot, prepared.capacity * (dual.price - prepared.ask), minlength=reach.shape[1]
    ).astype(float)
    np.add.at(share, reach[~between].argmax(axis=1), surplus[~between])
    for gang in np.flatnonzero(divided):
        slots = eligible_slots(prepared, int(gang))
        unit_worth[gang] = _marginal_price(prepared, dual.price, int(gang), slots)
        gain = prepared.capacity[slots] * np.maximum(unit_worth[gang] - dual.price[slots], 0.0)
        share += np.bincount(model_of_slot[slots], gain, minlength=share.size)
    rest = np.where(divided, np.maximum(prepared.value - gangs.gpus * unit_worth, 0.0), 0.0)
    paid = np.where(between & ~divided, surplus, 0.0)
    settled = float(paid.sum() + rest.sum()) + prepared.constant
    return Split(prepared, dual, reach, paid, divided, unit_worth, share, settled)


def eligible_slots(prepared: Prepared, gang: int) -> Int:
    """The slots that a gang may use, ascending."""
    rows, start = eligible_rows(prepared, gang), prepared.rows.start
    return np.concatenate([np.empty(0, dtype=np.int64), *(np.arange(start[row], start[row + 1]) for row in rows)])


def eligible_rows(prepared: Prepared, gang: int) -> Int:
    """The rows that a gang may use, ascending."""
    shapes, shape = prepared.shapes, prepared.shapes.of_gang[gang]
    return shapes.rows[shapes.first[shape] : shapes.first[shape + 1]].astype(np.int64)


def worth_of_plan(split: Split, problem: Problem, placed: Placements) -> Float:
    """What a plan reaches in each model's program, (models,): never more than its optimum."""
    model, paid = problem.nodes.model[placed.node], split.paid
    asks = placed.gpus * problem.nodes.ask_micro_usd[placed.node].astype(float)
    per_gpu = np.where(split.divided, split.unit_worth, (split.prepared.value - paid) / problem.gangs.gpus)
    worth = placed.gpus * per_gpu[placed.request] - asks
    return np.bincount(model, worth, minlength=split.share.size).astype(np.float64)


def _mixes(prepared: Prepared) -> Flags:
    """Gangs with a choice that no single model bounds, (gangs,)."""
    choices = prepared.relaxed
    shape = np.repeat(np.arange(choices.first.size - 1), np.diff(choices.first))
    mixes = np.zeros(choices.first.size - 1, dtype=bool)
    mixes[shape[choices.table[:, C_MODEL] < 0]] = True
    return mixes[prepared.shapes.of_gang]


def _marginal_price(prepared: Prepared, price: Float, gang: int, slots: Int) -> float:
    """The price of a gang's last GPU in an empty fleet, at most what one is worth to it."""
    gangs = prepared.problem.gangs
    by_price = slots[np.argsort(price[slots], kind="stable")]
    last = np.searchsorted(np.cumsum(prepared.capacity[by_price]), gangs.gpus[gang])
    each = float(prepared.value[gang] / gangs.gpus[gang])
    return min(each, float(price[by_price[min(last, by_price.size - 1)]]))
