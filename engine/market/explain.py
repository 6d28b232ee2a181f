"""Explanations: how each constraint narrows the fleet, which one is in the way, and what would help.

Computed from the state by solving, never guessed. For every constraint: the most GPUs a cluster could have with
it alone, with it and those before it, and with all but it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import Refused
from engine.market.lease_terms import Terms
from engine.market.prices import PriceBook
from engine.market.reach import Int, Reach, base_room, joint_constraints, node_masks, reach, room_limits
from engine.market.relaxations import Relaxation, relaxations_of
from engine.market.state import MarketState
from engine.market.terms import SEARCH_LIMIT, terms_of

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
    free = state.inventory.free
    rows = constraint_counts(state, request, free)
    return _explanation(state, request, free, "", "the request can be served", rows, [], terms)


def explain_refusal(state: MarketState, request: ClusterRequest, refusal: Refused) -> Explanation:
    """Explain a refusal that a decision on this state raised."""
    free = state.inventory.free
    rows = constraint_counts(state, request, free)
    if not rows:
        return _explanation(state, request, free, refusal.reason, refusal.message, rows, [], None)
    most = rows[-1].gpus_cumulative
    room = int(base_room(state.inventory, request, free).sum())
    reason, detail = _verdict(room, request, rows, refusal)
    inventory = state.inventory.sold_as(interruptible=request.interruptible)
    relaxations = relaxations_of(inventory, request, most)
    return _explanation(state, request, free, reason, detail, rows, relaxations, None)


def constraint_counts(state: MarketState, request: ClusterRequest, free: Int) -> list[ConstraintCount]:
    """One row per constraint of the request, in the order they are applied. `free`: that of the inventory."""
    inventory = state.inventory.sold_as(interruptible=request.interruptible)
    if not inventory.node_ids.size:
        return []
    base = base_room(inventory, request, free)
    masks, limits = node_masks(inventory, request), room_limits(inventory, request)
    joint = joint_constraints(request)
    names = [*masks, *limits, *joint]

    @cache
    def most(kept: frozenset[str]) -> Reach:
        eligible = np.ones(free.size, dtype=bool)
        for name in masks.keys() & kept:
            eligible &= masks[name]
        room = base
        for name in limits.keys() & kept:
            room = np.minimum(room, limits[name])
        return reach(inventory, request, eligible, kept - masks.keys() - limits.keys(), room)

    rows = []
    for index, name in enumerate(names):
        kept = {name}, set(names[: index + 1]), set(names) - {name}
        found = [most(frozenset(each)) for each in kept]
        alone, cumulative, without = (count.gpus for count in found)
        rows.append(ConstraintCount(name, alone, cumulative, without, all(count.exact for count in found)))
    return rows


def _verdict(
    gpus_free: int, request: ClusterRequest, rows: list[ConstraintCount], refusal: Refused
) -> tuple[str, str]:
    """(typed reason, sentence): the constraint too strict alone, else the one at which the rest becomes too few.

    COMBINATION if giving up that one constraint would not be enough.
    """
    wanted, most = request.gpu_count, rows[-1].gpus_cumulative
    if refusal.reason == SEARCH_LIMIT or most >= wanted:
        return refusal.reason, refusal.message
    if gpus_free < wanted:
        return NO_CAPACITY, f"{wanted:,} GPUs are wanted and {gpus_free:,} are free in the whole fleet"
    for row in rows:
        if row.gpus_alone < wanted:
            name = row.constraint.replace(",", " or ")
            return _code(row), f"{name} alone leaves {row.gpus_alone:,} of the {wanted:,} GPUs wanted"
    first = next(row for row in rows if row.gpus_cumulative < wanted)
    if first.gpus_without >= wanted:
        name = first.constraint.replace(",", " or ")
        return _code(first), (
            f"at {name} the GPUs become too few: {first.gpus_cumulative:,} are left of the {wanted:,} wanted, "
            f"and all constraints but this one leave {first.gpus_without:,}"
        )
    return COMBINATION, f"no constraint alone is in the way; together they leave {most:,} of {wanted:,} GPUs"


def _code(row: ConstraintCount) -> str:
    return row.constraint.replace(",", "_OR_").upper()


def _explanation(
    state: MarketState,
    request: ClusterRequest,
    free: Int,
    reason: str,
    detail: str,
    rows: list[ConstraintCount],
    relaxations: list[Relaxation],
    terms: Terms | None,
) -> Explanation:
    return Explanation(
        request=request,
        gpus_free=int(free.sum()),
        reason=reason,
        detail=detail,
        constraints=tuple(rows),
        relaxations=tuple(relaxations),
        terms=terms,
        fleet_version=state.fleet_version,
    )
