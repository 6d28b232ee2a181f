"""The directory of an earlier plan as the start of the next: its prices, and what of it can stand as it stood.

A placement is taken over if its request is the same in every column, its nodes are the same but for free GPUs,
state and ask, and are READY now. Where the measured RTTs changed, only requests that name no RTT are taken over.
Rows are compared column by column, after the earlier ones are put in the order of now; the copies of the earlier
inputs were checked when they were planned, so that of them only ids are looked at again.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain import tables
from engine.domain.errors import InvalidInput, Violation
from engine.domain.tiers import NodeState
from engine.planning import plan_files_schema as files
from engine.planning.inputs import Inputs
from solvers.planning.plan import Start

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
CHANGING = ("gpu_free", "state", "ask_micro_usd_per_gpu_hour")
RTT_LIMITS = ("max_client_rtt_ms", "max_cluster_rtt_ms")
NODE, REQUEST = "node_id", "request_id"
KNOWN = "known"


class Earlier(NamedTuple):
    """What an earlier plan was made of, in the rows of the plan at hand.

    `fleet`, `requests`: for each node and request of now its earlier row, nulls where there was none; `KNOWN` says
    which. `sold`: ids of nodes with rows that could move.
    """

    fleet: pl.DataFrame
    requests: pl.DataFrame
    same_rtt: bool
    sold: pl.Series


def read_start(directory: Path, inputs: Inputs) -> Start:
    """The start that a plan directory gives; InvalidInput names what is not there or not as it should be."""
    if not (directory / files.REPORT_FILE).exists():
        raise InvalidInput([Violation("--last", f"{directory} holds no finished plan")])
    earlier = _earlier(directory / files.INPUTS_FOLDER, inputs)
    plan = tables.read_table(directory / files.PLAN_FILE, files.PLAN_SCHEMA)
    prices = tables.read_table(directory / files.NODE_PRICES_FILE, files.NODE_PRICES_SCHEMA)
    for name, ids in ((REQUEST, inputs.requests), (NODE, inputs.fleet)):
        plan = plan.join(ids.select(name).with_row_index(name.removesuffix("_id")), on=name)
    request, node = (plan[name].to_numpy().astype(np.int64) for name in ("request", "node"))
    gpus = plan["gpus"].to_numpy().astype(np.int64)
    stays = _node_stays(inputs, earlier)[node]
    left = np.bincount(request[stays], gpus[stays], inputs.requests.height)
    whole = _request_stays(inputs, earlier) & (left == inputs.requests["gpu_count"].to_numpy())
    stays &= whole[request]
    rows = np.flatnonzero(stays)[np.lexsort((node[stays], request[stays]))]
    return Start(request[rows], node[rows], gpus[rows], _prices(prices, earlier, inputs.fleet))


def _earlier(folder: Path, inputs: Inputs) -> Earlier:
    fleet = _table(folder / files.FLEET_FILE, tables.FLEET_SCHEMA, tables.OPTIONAL_FLEET_COLUMNS)
    requests = _table(folder / files.REQUESTS_FILE, tables.REQUESTS_SCHEMA, tables.OPTIONAL_REQUEST_COLUMNS)
    rtt = _table(folder / files.RTT_FILE, tables.RTT_SCHEMA, needed=False)
    placements = _table(
        folder / files.PLACEMENTS_FILE,
        tables.PLACEMENTS_SCHEMA,
        tables.OPTIONAL_PLACEMENT_COLUMNS,
        needed=False,
    )
    return Earlier(
        fleet=_in_order_of(inputs.fleet, fleet, NODE, files.FLEET_FILE),
        requests=_in_order_of(inputs.requests, requests, REQUEST, files.REQUESTS_FILE),
        same_rtt=inputs.rtt.equals(rtt),
        sold=placements.filter("movable")[NODE],
    )


def _table(
    path: Path, schema: dict[str, pl.DataType], optional: Collection[str] = (), needed: bool = True
) -> pl.DataFrame:
    """An earlier input, empty if it is not there and need not be."""
    if not needed and not path.exists():
        return pl.DataFrame(schema=schema)
    return tables.parse_table(tables.read_content(path), path.name, schema, optional)


def _in_order_of(now: pl.DataFrame, earlier: pl.DataFrame, name: str, table: str) -> pl.DataFrame:
    """The earlier row of every row of `now`, by its id."""
    earlier = earlier.with_columns(pl.lit(True).alias(KNOWN))
    if now[name].equals(earlier[name]):
        return earlier
    if earlier[name].n_unique() < earlier.height:
        raise InvalidInput([Violation(f"{table} column {name}", "of the earlier plan is not unique")])
    found = now.select(name).join(earlier, on=name, how="left", maintain_order="left")
    return found.with_columns(pl.col(KNOWN).fill_null(False))


def _alike(now: pl.DataFrame, earlier: pl.DataFrame, but: Collection[str] = ()) -> Flags:
    """Which rows of `now` are as they were, columns of `but` aside."""
    same = [pl.col(column).eq_missing(earlier[column]) for column in now.columns if column not in but]
    alike: Flags = now.select(pl.all_horizontal(earlier[KNOWN], *same)).to_series().to_numpy()
    return alike


def _node_stays(inputs: Inputs, earlier: Earlier) -> Flags:
    ready: Flags = (inputs.fleet["state"] == NodeState.READY.name).to_numpy()
    return _alike(inputs.fleet, earlier.fleet, CHANGING) & ready


def _request_stays(inputs: Inputs, earlier: Earlier) -> Flags:
    alike = _alike(inputs.requests, earlier.requests)
    if earlier.same_rtt:
        return alike
    unlimited = pl.all_horizontal(pl.col(column).is_null() for column in RTT_LIMITS)
    free: Flags = inputs.requests.select(unlimited).to_series().to_numpy()
    return alike & free


def _prices(prices: pl.DataFrame, earlier: Earlier, fleet: pl.DataFrame) -> Float:
    """The earlier price of every node of now; NaN where there was none, or nothing to be sold."""
    column = "shadow_price_micro_usd_per_gpu_hour"
    if not fleet[NODE].equals(prices[NODE]):
        prices = fleet.select(NODE).join(prices, on=NODE, how="left", maintain_order="left")
    before = earlier.fleet
    had = (before["state"] == NodeState.READY.name) & (before["gpu_free"] > 0)
    if earlier.sold.len():
        had |= fleet[NODE].is_in(earlier.sold.implode()) & before[KNOWN]
    price: Float = np.where(had.fill_null(False).to_numpy(), prices[column].to_numpy(), np.nan)
    return price
