"""Explanations: how each constraint narrows the fleet, which one is in the way, and what would help.

Computed from the state by solving, never guessed. For every constraint: the most GPUs a cluster could have with
it alone, with it and those before it, and with all but it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import Refused
from engine.market.decide import SEARCH_LIMIT, terms_of
from engine.market.events import Terms
from engine.market.prices import PriceBook
from engine.market.reach import Reach, joint_constraints, node_masks, reach
from engine.market.relaxations import Relaxation, relaxations_of
from engine.market.state import MarketState

NO_CAPACITY, COMBINATION = "NO_CAPACITY", "COMBINATION"


@dataclass(frozen=True, slots=True)
class ConstraintCount:
    """The most GPUs under some of the constraints; upper bounds unless `exact`."""

    constraint: str
    gpus_alone: int
    gpus_cumulative: int
    gpus_without: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a request can or cannot be served. `terms`: the placement, if it can."""

    request: ClusterRequest
    gpus_free: int
    reason: str
    detail: str
    constraints: tuple[ConstraintCount, ...]
    relaxations: tuple[Relaxation, ...]
    terms: Terms | None
    fleet_version: int


def explain(state: MarketState, request: ClusterRequest, book: PriceBook) -> Explanation:
    """Explain a request against the state; raises InvalidInput like a deployment would."""
    try:
        terms = terms_of(state, request, book)
    except Refused as refusal:
        return explain_refusal(state, request, refusal)
    rows = constraint_counts(state, request)
    return _explanation(state, request, "", "the request can be served", rows, [], terms)


def explain_refusal(state: MarketState, request: ClusterRequest, refusal: Refused) -> Explanation:
    """Explain a refusal that a decision on this state raised."""
    rows = constraint_counts(state, request)
    if not rows:
        return _explanation(state, request, refusal.reason, refusal.message, rows, [], None)
    most = rows[-1].gpus_cumulative
    reason = _reason(state, request, rows, refusal)
    detail = _sentence(request, rows, reason, refusal)
    relaxations = relaxations_of(state.inventory, request, most)
    return _explanation(state, request, reason, detail, rows, relaxations, None)


def constraint_counts(state: MarketState, request: ClusterRequest) -> list[ConstraintCount]:
    """One row per constraint of the request, in the order they are applied."""
    inventory, free = state.inventory, state.inventory.free
    if not free.size:
        return []
    masks, joint = node_masks(inventory, request), joint_constraints(request)
    names = [*masks, *joint]

    def most(kept: list[str]) -> Reach:
        eligible = np.ones(free.size, dtype=bool)
        for name in kept:
            if name in masks:
                eligible &= masks[name]
        return reach(inventory, request, eligible, set(kept) - set(masks), free)

    rows = []
    for index, name in enumerate(names):
        found = most([name]), most(names[: index + 1]), most([*names[:index], *names[index + 1 :]])
        alone, cumulative, without = (count.gpus for count in found)
        rows.append(ConstraintCount(name, alone, cumulative, without, all(count.exact for count in found)))
    return rows


def _reason(state: MarketState, request: ClusterRequest, rows: list[ConstraintCount], refusal: Refused) -> str:
    """The constraint in the way: the first that is too strict alone, else the first whose loss would help."""
    if refusal.reason == SEARCH_LIMIT:
        return SEARCH_LIMIT
    wanted = request.gpu_count
    if int(state.inventory.free.sum()) < wanted:
        return NO_CAPACITY
    helps = [row.constraint for row in rows if row.gpus_without >= wanted]
    too_strict = [row.constraint for row in rows if row.gpus_alone < wanted]
    first = (too_strict or helps or [COMBINATION])[0]
    return first.replace(",", "_OR_").upper()


def _sentence(request: ClusterRequest, rows: list[ConstraintCount], reason: str, refusal: Refused) -> str:
    if reason == SEARCH_LIMIT:
        return refusal.message
    most = rows[-1].gpus_cumulative
    if most >= request.gpu_count:
        return refusal.message
    narrowest = min(rows, key=lambda row: row.gpus_cumulative)
    return (
        f"{request.gpu_count} GPUs are wanted; with all constraints at most {most} can be one cluster, "
        f"and {narrowest.constraint} is the last to narrow it"
    )


def _explanation(
    state: MarketState,
    request: ClusterRequest,
    reason: str,
    detail: str,
    rows: list[ConstraintCount],
    relaxations: list[Relaxation],
    terms: Terms | None,
) -> Explanation:
    return Explanation(
        request=request,
        gpus_free=int(state.inventory.free.sum()),
        reason=reason,
        detail=detail,
        constraints=tuple(rows),
        relaxations=tuple(relaxations),
        terms=terms,
        fleet_version=state.fleet_version,
    )
