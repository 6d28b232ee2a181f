"""The files of a plan directory: names, columns, and the words that stand in them.

The job writes them, `engine.planning.certificate` reads them. `inputs` of `report.json` maps a file name
(`fleet.parquet`) to the SHA-256, in hex, of its copy in `DIR/inputs/`; optional inputs that were not given have
neither.
"""

from __future__ import annotations

from enum import StrEnum

import polars as pl

FLEET_FILE, REQUESTS_FILE = "fleet.parquet", "requests.parquet"
RTT_FILE, PLACEMENTS_FILE = "rtt.parquet", "placements.parquet"
INPUT_FILES = (FLEET_FILE, REQUESTS_FILE, RTT_FILE, PLACEMENTS_FILE)
OPTIONAL_INPUT_FILES = frozenset({RTT_FILE, PLACEMENTS_FILE})
INPUTS_FOLDER = "inputs"
PLAN_FILE = "plan.parquet"
NODE_PRICES_FILE = "node_prices.parquet"
REFUSALS_FILE = "refusals.parquet"
MOVES_FILE = "moves.parquet"
REPORT_FILE = "report.json"

PLAN_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "node_id": pl.String(),
    "gpus": pl.Int64(),
    "price_micro_usd_per_gpu_hour": pl.Int64(),
}
CARD = "card"
"""The last column of a plan that places parts: the card that each takes on its node, null in all other rows."""
PLAN_OF_PARTS_SCHEMA = {**PLAN_SCHEMA, CARD: pl.Int64()}
NODE_PRICES_SCHEMA: dict[str, pl.DataType] = {
    "node_id": pl.String(),
    "shadow_price_micro_usd_per_gpu_hour": pl.Float64(),
}
REFUSALS_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
}
MOVES_SCHEMA: dict[str, pl.DataType] = {
    "step": pl.Int64(),
    "request_id": pl.String(),
    "from_node_id": pl.String(),
    "to_node_id": pl.String(),
    "gpus": pl.Int64(),
}


class RefusalReason(StrEnum):
    """Why a request is not in the plan (docs/planning.md, rule 9)."""

    NO_FEASIBLE_PLACEMENT = "NO_FEASIBLE_PLACEMENT"
    PRICE_TOO_LOW = "PRICE_TOO_LOW"
    SCARCE_CAPACITY = "SCARCE_CAPACITY"
    DISPLACED = "DISPLACED"
    PREEMPTED = "PREEMPTED"


class PlanStatus(StrEnum):
    """How the search ended. OPTIMAL: a bound equals the welfare; TIME_LIMIT: the clock ended it before that."""

    OPTIMAL = "OPTIMAL"
    FEASIBLE = "FEASIBLE"
    TIME_LIMIT = "TIME_LIMIT"
