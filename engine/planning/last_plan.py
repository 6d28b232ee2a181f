"""The directory of an earlier plan as the start of the next: its prices, and what of it can stand as it stood.

A placement is taken over if its request is the same in every column, its nodes are the same but for free GPUs,
state and ask, and are READY now. Where the measured RTTs changed, only requests that name no RTT are taken over.
Rows are compared column by column, after the earlier ones are put in the order of now; the copies of the earlier
inputs were checked when they were planned, so that of them only ids are looked at again. What the plan answered is
checked as `walras plan check` does, file by file; whether the plan as a whole holds does not matter here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain import tables
from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.domain.table_rules import duplicate_rule, range_rule, violations_of
from engine.domain.tiers import NodeState
from engine.planning import plan_files_schema as files
from engine.planning.certificate_files import Hashes, read_node_prices, read_plan, read_report
from engine.planning.inputs import Inputs
from solvers.planning.plan import Start

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
CHANGING = ("gpu_free", "state", "ask_micro_usd_per_gpu_hour")
RTT_LIMITS = ("max_client_rtt_ms", "max_cluster_rtt_ms")
NODE, REQUEST = "node_id", "request_id"
KNOWN = "known"
PRICE = "shadow_price_micro_usd_per_gpu_hour"


class Earlier(NamedTuple):
    """What an earlier plan was made of, in the rows of the plan at hand, and what it answered.

    `fleet`, `requests`: for each node and request of now its earlier row, nulls where there was none; `KNOWN` says
    which. `sold`: ids of nodes with rows that could move. `plan`, `prices`: as they were written.
    """

    fleet: pl.DataFrame
    requests: pl.DataFrame
    same_rtt: bool
    sold: pl.Series
    plan: pl.DataFrame
    prices: pl.DataFrame


class LastPlan(NamedTuple):
    """The start that an earlier plan gives, and which plan it was.

    `hashes`: SHA-256, in hex, of every table that was read, by its name in the directory.
    """

    start: Start
    hashes: Hashes


def read_start(directory: Path, inputs: Inputs) -> Start:
    """The start alone; see `read_last`."""
    return read_last(directory, inputs).start


def read_last(directory: Path, inputs: Inputs) -> LastPlan:
    """The earlier plan in a directory; InvalidInput lists what is not there or not as it should be."""
    if not (directory / files.REPORT_FILE).exists():
        raise InvalidInput([Violation("--last", f"{directory} holds no finished plan")])
    hashes: Hashes = {}
    return LastPlan(_start(_earlier(directory, inputs, hashes), inputs), hashes)


def _start(earlier: Earlier, inputs: Inputs) -> Start:
    plan = earlier.plan
    for name, ids in ((REQUEST, inputs.requests), (NODE, inputs.fleet)):
        plan = plan.join(ids.select(name).with_row_index(name.removesuffix("_id")), on=name)
    request, node = (plan[name].to_numpy().astype(np.int64) for name in ("request", "node"))
    gpus = plan["gpus"].to_numpy().astype(np.int64)
    stays = _node_stays(inputs, earlier)[node]
    left = np.bincount(request[stays], gpus[stays], inputs.requests.height)
    whole = _request_stays(inputs, earlier) & (left == inputs.requests["gpu_count"].to_numpy())
    stays &= whole[request]
    rows = np.flatnonzero(stays)[np.lexsort((node[stays], request[stays]))]
    return Start(request[rows], node[rows], gpus[rows], _prices(earlier, inputs.fleet))


def _earlier(directory: Path, inputs: Inputs, hashes: Hashes) -> Earlier:
    folder = directory / files.INPUTS_FOLDER
    reads = (partial(_input, folder, hashes, table) for table in _INPUTS)
    fleet, requests, rtt, placements = _each(folder, *reads)
    ordered = _in_order_of(inputs.fleet, fleet, NODE, files.FLEET_FILE)
    queue = _in_order_of(inputs.requests, requests, REQUEST, files.REQUESTS_FILE)
    plan, prices, _ = _each(
        directory,
        lambda: _plan(directory, fleet, requests, hashes),
        lambda: _node_prices(directory, fleet, hashes),
        lambda: read_report(directory),
    )
    return Earlier(ordered, queue, inputs.rtt.equals(rtt), placements.filter("movable")[NODE], plan, prices)


def _each(folder: Path, *reads: Callable[[], Any]) -> list[Any]:
    """What every one of them reads; InvalidInput with the violations of all, each under the folder's name."""
    found: list[Any] = []
    violations: list[Violation] = []
    for read in reads:
        try:
            found.append(read())
        except InvalidInput as error:
            violations += [Violation(str(folder / each.field), each.description) for each in error.violations]
    if violations:
        raise InvalidInput(violations)
    return found


InputTable = tuple[str, dict[str, pl.DataType], set[str]]
_INPUTS: tuple[InputTable, ...] = (
    (files.FLEET_FILE, tables.FLEET_SCHEMA, tables.OPTIONAL_FLEET_COLUMNS),
    (files.REQUESTS_FILE, tables.REQUESTS_SCHEMA, tables.OPTIONAL_REQUEST_COLUMNS),
    (files.RTT_FILE, tables.RTT_SCHEMA, set()),
    (files.PLACEMENTS_FILE, tables.PLACEMENTS_SCHEMA, tables.OPTIONAL_PLACEMENT_COLUMNS),
)


def _input(folder: Path, hashes: Hashes, table: InputTable) -> pl.DataFrame:
    """An earlier input, empty if it is not there and need not be."""
    name, schema, optional = table
    if name in files.OPTIONAL_INPUT_FILES and not (folder / name).exists():
        return pl.DataFrame(schema=schema)
    content = tables.read_content(folder / name)
    hashes[f"{files.INPUTS_FOLDER}/{name}"] = hashlib.sha256(content).hexdigest()
    return tables.parse_table(content, name, schema, optional)


def _plan(directory: Path, fleet: pl.DataFrame, requests: pl.DataFrame, hashes: Hashes) -> pl.DataFrame:
    """Rows that name each node and request of the earlier inputs once at most; nodes may be overfull."""
    plan = read_plan(directory, hashes)
    rules = (
        (NODE, ~pl.col(NODE).is_in(fleet[NODE].implode()), "is no node of the fleet"),
        (REQUEST, ~pl.col(REQUEST).is_in(requests[REQUEST].implode()), "is no request of the queue"),
        duplicate_rule(NODE, pl.struct(REQUEST, NODE)),
    )
    if violations := violations_of(plan, files.PLAN_FILE, rules):
        raise InvalidInput(violations)
    return plan


def _node_prices(directory: Path, fleet: pl.DataFrame, hashes: Hashes) -> pl.DataFrame:
    """A price for each node. One above all totals proves a bound, but the search could not compute with it."""
    prices = read_node_prices(directory, fleet, hashes)
    rules = [range_rule(PRICE, 0.0, float(MAX_TOTAL_MICRO_USD))]
    if violations := violations_of(prices, files.NODE_PRICES_FILE, rules):
        raise InvalidInput(violations)
    return prices


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


def _prices(earlier: Earlier, fleet: pl.DataFrame) -> Float:
    """The earlier price of every node of now; NaN where there was none, or nothing to be sold."""
    prices = earlier.prices
    if not fleet[NODE].equals(prices[NODE]):
        prices = fleet.select(NODE).join(prices, on=NODE, how="left", maintain_order="left")
    before = earlier.fleet
    had = (before["state"] == NodeState.READY.name) & (before["gpu_free"] > 0)
    if earlier.sold.len():
        had |= fleet[NODE].is_in(earlier.sold.implode()) & before[KNOWN]
    price: Float = np.where(had.fill_null(False).to_numpy(), prices[PRICE].to_numpy(), np.nan)
    return price
