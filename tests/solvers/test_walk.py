"""The walk over thousands of nodes costs what plain greedy over a sorted list costs (solvers.walk)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.domain.cluster_request import REQUEST_FIELDS, ClusterRequest, parse_cluster_request
from engine.domain.tables import REQUESTS_SCHEMA
from engine.market.demand import demand_of, sites_ok
from engine.market.inventory import Inventory
from engine.market.prices import posted_prices
from engine.market.state import MarketState
from engine.service.price_book import ReferenceBook
from solvers.placement import NoPlacement, Placement

FIELDS = set(REQUEST_FIELDS).intersection(REQUESTS_SCHEMA) - {"request_id", "max_cluster_rtt_ms"}

Row = dict[str, Any]
GPUS, REQUESTS = 20_000, 300


def loaded(seed: int) -> tuple[Inventory, pl.DataFrame]:
    fleet = synthetic_fleet(GPUS, seed)
    inventory = Inventory.empty().merged(fleet, synthetic_rtt(fleet, seed))
    prices = posted_prices(inventory, ReferenceBook(), MarketState())
    inventory.post(prices.posted, prices.snapshot_id)
    return inventory, synthetic_requests(fleet, REQUESTS, seed)


def plain_greedy_rate(inventory: Inventory, rows: list[Row], request: ClusterRequest) -> int | None:
    """The dumb twin: per model and fabric, sort the nodes that qualify by price and take replicas in order."""
    near = sites_ok(inventory, request)
    posted = inventory.posted.tolist()
    free = inventory.free.tolist()
    groups: dict[Any, list[tuple[int, int, str]]] = defaultdict(list)
    for number, row in enumerate(rows):
        if not near[inventory.nodes.site[number]] or not qualifies(request, row):
            continue
        model = "any" if request.allow_mixed_models else row["gpu_model"]
        fabric = row["fabric_id"] if request.same_fabric else "any"
        price = max(row["ask_micro_usd_per_gpu_hour"], posted[number])
        groups[model, fabric].append((price, free[number] // request.gpus_per_node, row["supplier_id"]))
    rates = [rate for nodes in groups.values() if (rate := cheapest(request, sorted(nodes))) is not None]
    return min(rates, default=None)


def cheapest(request: ClusterRequest, nodes: list[tuple[int, int, str]]) -> int | None:
    limit = request.max_gpus_per_supplier
    room: dict[str, int] = defaultdict(
        lambda: request.replicas if limit is None else limit // request.gpus_per_node
    )
    left, rate = request.replicas, 0
    for price, replicas, supplier in nodes:
        taken = min(left, replicas, room[supplier])
        room[supplier] -= taken
        left -= taken
        rate += taken * request.gpus_per_node * price
    return None if left else rate


def qualifies(request: ClusterRequest, row: Row) -> bool:
    grades = (
        ("security_tier", request.min_security_tier),
        ("connectivity_tier", request.min_connectivity_tier),
        ("interconnect", request.min_interconnect),
    )
    return (
        (not request.gpu_models or row["gpu_model"] in request.gpu_models)
        and all(wanted is None or type(wanted)[row[column]] >= wanted for column, wanted in grades)
        and set(request.certifications) <= set(row["certifications"] or ())
        and row["reliability"] >= (request.min_reliability or 0)
        and (not request.allowed_suppliers or row["supplier_id"] in request.allowed_suppliers)
        and row["supplier_id"] not in request.excluded_suppliers
        and not (request.same_fabric and row["fabric_id"] is None)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_nodes_cost_what_plain_greedy_costs(seed: int) -> None:
    """Law: pools, histograms, lazy admission and early stops change the speed of the walk, never its cost.

    The fleet fills up as requests are granted, so that fragments, exhausted bases and high asks all occur.
    """
    inventory, requests = loaded(seed)
    rows, granted = inventory.frame.to_dicts(), 0
    for row in requests.iter_rows(named=True):
        fields = {name: row[name] for name in FIELDS}
        request = parse_cluster_request(fields)
        found = inventory.placer.place(demand_of(inventory, request, ReferenceBook().models()))
        expected = plain_greedy_rate(inventory, rows, request)
        assert (found.rate if isinstance(found, Placement) else None) == expected, fields
        if isinstance(found, NoPlacement):
            continue
        granted += 1
        assert found.idle_broken <= np.unique(found.nodes).size == found.nodes.size
        inventory.lease(found.nodes, found.gpus)
    assert granted > REQUESTS / 2
