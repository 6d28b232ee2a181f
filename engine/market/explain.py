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
from engine.market.counted_rows import room_limits, row_masks, rows_of
from engine.market.lease_terms import Terms
from engine.market.prices import PriceBook
from engine.market.reach import Reach, joint_constraints, reach
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
    counts = constraint_counts(state, request)[1]
    return _explanation(state, request, "", "the request can be served", counts, [], terms)


def explain_refusal(state: MarketState, request: ClusterRequest, refusal: Refused) -> Explanation:
    """Explain a refusal that a decision on this state raised."""
    gpus_free, counts = constraint_counts(state, request)
    reason, detail = _verdict(gpus_free, counts, request, refusal)
    if not counts:
        return _explanation(state, request, reason, detail, counts, [], None)
    inventory = state.inventory.sold_as(interruptible=request.interruptible)
    relaxations = relaxations_of(inventory, request, counts[-1].gpus_cumulative)
    return _explanation(state, request, reason, detail, counts, relaxations, None)


def verdict_on(state: MarketState, request: ClusterRequest, refusal: Refused) -> tuple[str, str]:
    """(typed reason, sentence) of `explain_refusal`, without looking for what would help, which takes longest."""
    return _verdict(*constraint_counts(state, request), request, refusal)


def constraint_counts(state: MarketState, request: ClusterRequest) -> tuple[int, list[ConstraintCount]]:
    """(GPUs without any constraint, one row per constraint of the request in the order they are applied)."""
    inventory = state.inventory.sold_as(interruptible=request.interruptible)
    if not inventory.node_ids.size:
        return 0, []
    rows = rows_of(inventory, request)
    masks, limits = row_masks(inventory, request, rows), room_limits(inventory, request)
    names = [*masks, *limits, *joint_constraints(request)]

    @cache
    def most(kept: frozenset[str]) -> Reach:
        passes = np.ones(rows.free.size, dtype=bool)
        for name in masks.keys() & kept:
            passes &= masks[name]
        room = rows.whole if "gpus_per_node" in kept else rows.free
        for name in limits.keys() & kept:
            room = np.minimum(room, limits[name])
        return reach(inventory, request, rows, passes, kept - masks.keys() - limits.keys(), room)

    counts = []
    for index, name in enumerate(names):
        kept = {name}, set(names[: index + 1]), set(names) - {name}
        found = [most(frozenset(each)) for each in kept]
        alone, cumulative, without = (count.gpus for count in found)
        counts.append(ConstraintCount(name, alone, cumulative, without, all(count.exact for count in found)))
    return int(rows.free.sum()), counts


def _verdict(
    gpus_free: int, rows: list[ConstraintCount], request: ClusterRequest, refusal: Refused
) -> tuple[str, str]:
    """(typed reason, sentence): the constraint too strict alone, else the one at which the rest becomes too few.

    COMBINATION if giving up that one constraint would not be enough; the refusal's own if nothing was counted.
    """
    wanted, most = request.gpu_count, rows[-1].gpus_cumulative if rows else 0
    if not rows or refusal.reason == SEARCH_LIMIT or most >= wanted:
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
    reason: str,
    detail: str,
    counts: list[ConstraintCount],
    relaxations: list[Relaxation],
    terms: Terms | None,
) -> Explanation:
    inventory = state.inventory
    return Explanation(
        request=request,
        gpus_free=int(inventory.pools.left.sum()) if inventory.node_ids.size else 0,
        reason=reason,
        detail=detail,
        constraints=tuple(counts),
        relaxations=tuple(relaxations),
        terms=terms,
        fleet_version=state.fleet_version,
    )
