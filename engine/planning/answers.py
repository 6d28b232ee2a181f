"""The answers that are not placements, in names: who is refused and why, and which moves lead to the plan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.errors import AuditFailed
from engine.domain.table_rules import MAX_LISTED
from engine.planning.encode import Encoded
from engine.planning.fleet_codes import FleetCodes
from engine.planning.plan_files_schema import MOVES_SCHEMA, REFUSALS_SCHEMA, RefusalReason
from engine.planning.refusal_text import Names, RefusalTexts
from solvers.planning.moves import order
from solvers.planning.plan import Plan
from solvers.planning.refusals import Reason

Int = NDArray[np.int64]


class Refusals(NamedTuple):
    """A row per request that is not served: its number, a RefusalReason, and what is behind it."""

    request: Int
    reason: list[str]
    detail: list[str]


def refusals_of(encoded: Encoded, plan: Plan) -> pl.DataFrame:
    """A row per request that is not served, in the order of the queue."""
    refusals = explain(encoded, plan)
    columns = {
        "request_id": encoded.request_ids.gather(refusals.request),
        "reason": refusals.reason,
        "detail": refusals.detail,
    }
    return pl.DataFrame(columns, schema=REFUSALS_SCHEMA)


def moves_of(encoded: Encoded, plan: Plan) -> pl.DataFrame:
    """A row per step, source and target node, after each of which everything fits; AuditFailed if some cannot."""
    moves = order(encoded.problem, plan)
    if moves.blocked.size:
        names = ", ".join(encoded.request_ids.gather(moves.blocked).head(MAX_LISTED).to_list())
        raise AuditFailed(f"the plan has no order of moves in which every node fits; blocked: {names}")
    columns = {
        "step": moves.step,
        "request_id": encoded.request_ids.gather(moves.request),
        "from_node_id": encoded.node_ids.gather(moves.from_node),
        "to_node_id": encoded.node_ids.gather(moves.to_node),
        "gpus": moves.gpus,
    }
    return pl.DataFrame(columns, schema=MOVES_SCHEMA)


def explain(encoded: Encoded, plan: Plan) -> Refusals:
    """Why each request that is not served is not, by the planner's own account or by what runs now."""
    if plan.refusals is not None and plan.row_table is not None:
        texts = RefusalTexts(encoded.problem, plan.row_table, names_of(encoded.fleet), encoded.max_price_micro_usd)
        reason = [Reason(code).name for code in plan.refusals.reason.tolist()]
        return Refusals(plan.refusals.gang, reason, texts.details(plan.refusals))
    requests = encoded.request_ids.len()
    refused = np.setdiff1d(np.arange(requests), plan.request)
    reasons = np.full(requests, RefusalReason.SCARCE_CAPACITY.value, dtype=object)
    reasons[encoded.problem.running.request] = RefusalReason.PREEMPTED.value
    reasons[encoded.displaced] = RefusalReason.DISPLACED.value
    return Refusals(refused, reasons[refused].tolist(), ["others are worth more there"] * refused.size)


def names_of(fleet: FleetCodes) -> Names:
    """What the codes of a fleet stand for."""
    return Names(
        models=fleet.models.names,
        sites=fleet.sites.names,
        regions=fleet.regions.names,
        countries=fleet.countries.names,
        suppliers=fleet.suppliers.names,
        certifications=fleet.certifications.names,
        site_region=fleet.site_region,
        site_country=fleet.site_country,
    )
