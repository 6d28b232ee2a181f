"""Encoding whole columns says what a look at one row after another says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.domain.errors import InvalidInput
from engine.planning.encode import Encoded, encode
from engine.planning.inputs import read_inputs
from tests.full_size import size
from tests.oracles import NODE_RULES, Case
from tests.planning.first_come import fits
from tests.planning.queues import Queue, queue_from_seed, queue_with_running_work

SEEDS = range(size(30, 60))


def encoded_of(queue: Queue, place: Path, bonus: int = 7) -> Encoded:
    return encode(read_inputs(queue.files(place)), 100_000, bonus)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_fits_a_request_if_and_only_if_it_keeps_every_rule(seed: int, tmp_path: Path) -> None:
    """DESIGN section 2: sets and ranks in codes mean what the constraints mean in words."""
    queue = queue_from_seed(seed, running=0)
    problem = encoded_of(queue, tmp_path).problem
    for gang, request in enumerate(queue.requests):
        case = Case(queue.fleet, queue.rtt, {}, request)
        for number, node in enumerate(queue.fleet):
            kept = {name: rule(case, node) for name, rule in NODE_RULES.items()}
            assert fits(problem, gang, number) == all(kept.values()), (request, node, kept)


@pytest.mark.parametrize("seed", SEEDS)
def test_sizes_values_and_limits(seed: int, tmp_path: Path) -> None:
    queue = queue_from_seed(seed)
    encoded = encoded_of(queue, tmp_path)
    gangs = encoded.problem.gangs
    for gang, request in enumerate(queue.requests):
        share = request.get("max_supplier_share")
        most = -1 if share is None else int(share * request["gpu_count"] + 1e-9)
        bonus = 7 if encoded.displaced[gang] else 0
        limit_ms = request.get("max_cluster_rtt_ms")
        assert gangs.gpus[gang] == request["gpu_count"]
        assert gangs.gpus_per_replica[gang] == (request.get("gpus_per_node") or 1)
        assert gangs.max_gpus_per_supplier[gang] == most
        assert gangs.value_micro_usd[gang] == request["max_price_micro_usd_per_gpu_hour"] + bonus
        assert gangs.max_cluster_rtt_ms[gang] == (np.inf if limit_ms is None else limit_ms)
        assert gangs.one_model[gang] == (not request.get("allow_mixed_models"))
        assert gangs.one_fabric[gang] == bool(request.get("same_fabric"))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_runs_is_pinned_displaced_or_kept_as_rule_3_says(seed: int, tmp_path: Path) -> None:
    """docs/planning.md, rules 2 and 3, row by row."""
    queue = queue_from_seed(seed, running=6)
    encoded = encoded_of(queue, tmp_path)
    problem, ready = encoded.problem, {node["node_id"]: node["state"] == "READY" for node in queue.fleet}
    for number, node in enumerate(queue.fleet):
        movable = sum(
            row["gpus"] for row in queue.placements if row["node_id"] == node["node_id"] and row["movable"]
        )
        assert problem.capacity[number] == (node["gpu_free"] + movable if node["state"] == "READY" else 0)
    for gang, request in enumerate(queue.requests):
        rows = [row for row in queue.placements if row["request_id"] == request["request_id"]]
        displaced = any(not ready[row["node_id"]] for row in rows)
        pinned = any(ready[row["node_id"]] and not row["movable"] for row in rows)
        may_end = displaced or (request["interruptible"] and not pinned)
        assert encoded.displaced[gang] == displaced
        assert problem.gangs.must_serve[gang] == (bool(rows) and not may_end)
    running = problem.running
    assert sorted(zip(running.request, running.node, strict=True)) == list(
        zip(running.request, running.node, strict=True)
    )
    for request, node, gpus, pinned in zip(
        running.request, running.node, running.gpus, running.pinned, strict=True
    ):
        row = next(
            row
            for row in queue.placements
            if (row["request_id"], row["node_id"])
            == (encoded.request_ids[int(request)], encoded.node_ids[int(node)])
        )
        assert gpus == row["gpus"]
        assert pinned == (ready[row["node_id"]] and not row["movable"])


@pytest.mark.parametrize("state", ["READY", "DOWN"])
def test_running_work_keeps_its_constraints_on_ready_nodes_only(state: str, tmp_path: Path) -> None:
    """docs/planning.md, rule 3: else bad input, with the row; what has to move anyway may stand anywhere."""
    queue = queue_with_running_work()
    row = queue.placements[1]
    for node in queue.fleet:
        if node["node_id"] == row["node_id"]:
            node |= {"state": state, "reliability": 0.5}
    for request in queue.requests:
        if request["request_id"] == row["request_id"]:
            request["min_reliability"] = 0.6
    if state == "DOWN":
        assert encoded_of(queue, tmp_path).displaced.any()
        return
    with pytest.raises(InvalidInput) as caught:
        encoded_of(queue, tmp_path)
    fields = {violation.field for violation in caught.value.violations}
    assert "placements.parquet row 1 column node_id" in fields
    assert "min_reliability" in str(caught.value)


SPREAD = {
    "allow_mixed_models": ("gpu_model", "L40S", "one GPU model"),
    "same_fabric": ("fabric_id", "elsewhere", "same_fabric"),
    "max_supplier_share": ("supplier_id", "s0", "max_supplier_share"),
    "max_cluster_rtt_ms": ("site_id", "syd1", "max_cluster_rtt_ms"),
}


@pytest.mark.parametrize("rule", SPREAD)
def test_rules_between_the_nodes_of_running_work(rule: str, tmp_path: Path) -> None:
    base = queue_from_seed(1, requests=1, running=0).fleet[0] | {
        "gpu_count": 8,
        "gpu_free": 4,
        "state": "READY",
        "gpu_model": "H100",
        "fabric_id": "here",
        "site_id": "iad1",
        "region": "us-east",
        "country": "US",
        "latitude": 38.95,
        "longitude": -77.45,
    }
    column, other, named = SPREAD[rule]
    far = {"region": "ap-south", "country": "AU", "latitude": -33.87, "longitude": 151.21}
    suppliers = [{"supplier_id": "s0"}, {"supplier_id": "s1"}]
    nodes = [base | suppliers[0] | {"node_id": "a"}, base | suppliers[1] | {"node_id": "b"}]
    request = {
        "request_id": "r",
        "gpu_count": 8,
        "duration_s": 60,
        "max_price_micro_usd_per_gpu_hour": 1,
        "allow_mixed_models": False,
        "same_fabric": True,
        "max_supplier_share": 0.5,
        "max_cluster_rtt_ms": 10.0,
    }
    rows = [{"request_id": "r", "node_id": node, "gpus": 4, "movable": True} for node in "ab"]
    queue = Queue(nodes, [], [request], rows)
    encoded_of(queue, tmp_path)
    nodes[1] |= {column: other} | (far if column == "site_id" else {})
    with pytest.raises(InvalidInput, match=named):
        encoded_of(queue, tmp_path)


@pytest.mark.parametrize("change", ["no requests", "no fleet", "all down"])
def test_worlds_with_nothing_in_them_are_encoded(change: str, tmp_path: Path) -> None:
    queue = queue_from_seed(3, running=0)
    if change == "no requests":
        queue = replace(queue, requests=[])
    elif change == "no fleet":
        queue = replace(queue, fleet=[])
    else:
        for node in queue.fleet:
            node["state"] = "DOWN"
    problem = encoded_of(queue, tmp_path).problem
    assert problem.capacity.shape == (len(queue.fleet),) and not (
        change != "no requests" and problem.capacity.any()
    )
    assert problem.gangs.gpus.shape == (len(queue.requests),)
    assert problem.site_sets.shape[1] == len({node["site_id"] for node in queue.fleet})
