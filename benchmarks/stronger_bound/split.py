"""The market split by GPU model: which gangs stand between models, and what each model's share of D is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.stronger_bound.bids import bids_of
from solvers.planning.choices import C_MODEL
from solvers.planning.dual import Dual, alone_at_asks
from solvers.planning.fold import MODEL
from solvers.planning.moves import Placements
from solvers.planning.parts import models_of_gangs
from solvers.planning.passes import able_gangs
from solvers.planning.prepare import Prepared
from solvers.planning.problem import Problem
from solvers.planning.relaxed_market import price

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]


LOSS_MOST = 0.05
"""Of a gang's value; a split by GPUs that costs more is not worth it. On the real instance ten gangs make 95 % of
what all of them lose.
"""


@dataclass(frozen=True, slots=True)
class Split:
    """Money is micro-USD per hour. `reach` (gangs, models): able gangs and the models they may use.

    `paid` (gangs,): λ, 0 unless a gang takes one of several models: half way from its surplus to what it would
    have on the second cheapest model. Anything between proves the same at p; half way the prices of both models
    can move before it leaves the one or comes to the other. `divided` (gangs,): may mix models; worth
    `unit_worth` (gangs,) a GPU, or, where `at_market` (gangs,), the row's price. `share` (models,): S_b.
    `settled`: what no model's program decides.
    """

    prepared: Prepared
    dual: Dual
    reach: Flags
    paid: Float
    divided: Flags
    unit_worth: Float
    at_market: Flags
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
    able = able_gangs(prepared, alone_at_asks(prepared, prepared.relaxed))
    reach = models_of_gangs(prepared, prepared.relaxed) & able[:, None]
    surplus = np.where(reach.any(axis=1), np.maximum(prepared.value - dual.minimum, 0.0), 0.0)
    between = reach.sum(axis=1) > 1
    divided = between & _mixes(prepared)
    unit_worth = np.zeros(gangs.gpus.size)
    model_of_slot = prepared.rows.table[prepared.rows.row_of, MODEL]
    share = np.bincount(
        model_of_slot, prepared.capacity * (dual.price - prepared.ask), minlength=reach.shape[1]
    ).astype(float)
    np.add.at(share, reach[~between].argmax(axis=1), surplus[~between])
    one_of_several = np.flatnonzero(between & ~divided)
    paid, surplus_after = _paid(prepared, dual, one_of_several, reach)
    share += surplus_after
    at_market = np.zeros(gangs.gpus.size, dtype=bool)
    rest = np.where(divided, surplus, 0.0)
    for gang in np.flatnonzero(divided):
        slots = eligible_slots(prepared, int(gang))
        worth = _marginal_price(prepared, dual.price, int(gang), slots)
        gain = prepared.capacity[slots] * np.maximum(worth - dual.price[slots], 0.0)
        left = max(float(prepared.value[gang] - gangs.gpus[gang] * worth), 0.0)
        at_market[gang] = gain.sum() + left > surplus[gang] + LOSS_MOST * prepared.value[gang]
        if not at_market[gang]:
            unit_worth[gang], rest[gang] = worth, left
            share += np.bincount(model_of_slot[slots], gain, minlength=share.size)
    settled = float(paid.sum() + rest.sum()) + prepared.constant
    return Split(prepared, dual, reach, paid, divided, unit_worth, at_market, share, settled)


def _paid(prepared: Prepared, dual: Dual, gangs: Int, reach: Flags) -> tuple[Float, Float]:
    """(λ of every gang, 0 but for some that take one of several models; their surplus in each model after it)."""
    paid, bids = np.zeros(reach.shape[0]), bids_of(prepared, gangs, np.ones(gangs.size, dtype=bool))
    if gangs.size == 0:
        return paid, np.zeros(reach.shape[1])
    cost = np.full(reach.shape, np.inf)
    model = prepared.relaxed.table[bids.choices[:, 0], C_MODEL]
    np.minimum.at(cost, (bids.gang, model), bids.costs(dual.price, dual.walk))
    surplus = np.where(reach, prepared.value[:, None] - cost, -np.inf)[gangs]
    best = np.sort(surplus, axis=1)[:, -2:]
    second = np.where(np.isfinite(best[:, 0]), best[:, 0], best[:, 1])
    paid[gangs] = np.maximum((best[:, 1] + second) / 2, 0.0)
    left: Float = np.maximum(surplus - paid[gangs, None], 0.0).sum(axis=0)
    return paid, left


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
    model, asks = problem.nodes.model[placed.node], problem.nodes.ask_micro_usd[placed.node].astype(float)
    whole = (split.prepared.value - split.paid) / problem.gangs.gpus
    per_gpu = np.where(split.divided, split.unit_worth, whole)[placed.request]
    price = split.dual.price[split.prepared.slot_of[placed.node]]
    worth = placed.gpus * (np.where(split.at_market[placed.request], price, per_gpu) - asks)
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
