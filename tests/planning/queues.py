"""Small random queues over one fleet, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from engine.domain.tables import FLEET_SCHEMA, PLACEMENTS_SCHEMA, REQUESTS_SCHEMA, RTT_SCHEMA
from engine.planning.inputs import InputPaths
from tests.oracles import NODE_RULES, Case
from tests.worlds import SITES, chance, draw_fleet, draw_request, draw_rtt

Row = dict[str, Any]


@dataclass(frozen=True)
class Queue:
    fleet: list[Row]
    rtt: list[Row]
    requests: list[Row]
    placements: list[Row]

    def files(self, place: Path) -> InputPaths:
        place.mkdir(parents=True, exist_ok=True)
        tables = (
            ("fleet", self.fleet, FLEET_SCHEMA),
            ("requests", self.requests, REQUESTS_SCHEMA),
            ("rtt", self.rtt, RTT_SCHEMA),
            ("placements", self.placements, PLACEMENTS_SCHEMA),
        )
        for name, rows, schema in tables:
            pl.DataFrame(rows, schema=schema).write_parquet(place / f"{name}.parquet")
        return InputPaths(*(place / f"{name}.parquet" for name, _, _ in tables))


def queue_from_seed(seed: int, requests: int = 8, running: int = 3, nodes: int = 12) -> Queue:
    """Requests in which every constraint bites, some of them running on one node that suits them."""
    random = Random(seed)
    sites = random.sample(sorted(SITES), random.choice((1, 3, 6)))
    rtt, fleet = draw_rtt(random, sites), draw_fleet(random, sites, nodes)
    rows = [draw_request(random, fleet, rtt, {}) for _ in range(requests)]
    for number, row in enumerate(rows):
        row["request_id"] = f"r{number}"
        row["max_price_micro_usd_per_gpu_hour"] = random.choice((500_000, 1_200_000, 2_500_000, 9_000_000))
        row["interruptible"] = chance(random, 40)
    placements: list[Row] = []
    for row in rows[:running]:
        placements += run_on_one_node(random, fleet, rtt, row)
    return Queue(fleet, rtt, rows, placements)


def queue_with_running_work() -> Queue:
    """A queue of which three requests or more run, over sites whose RTT was measured."""
    queues = (queue_from_seed(seed, running=8) for seed in range(999))
    return next(queue for queue in queues if len(queue.placements) >= 3 and queue.rtt)


def run_on_one_node(random: Random, fleet: list[Row], rtt: list[Row], request: Row) -> list[Row]:
    """Let a request run, if some node with enough GPUs keeps its rules; the node's free GPUs shrink."""
    case, gpus = Case(fleet, rtt, {}, request), request["gpu_count"]
    hosts = [
        node
        for node in fleet
        if node["gpu_free"] >= gpus and all(keeps(case, node) for keeps in NODE_RULES.values())
    ]
    share = request.get("max_supplier_share")
    if not hosts or (share is not None and share < 1):
        return []
    node = random.choice(hosts)
    node["gpu_free"] -= gpus
    movable = chance(random, 60)
    return [{"request_id": request["request_id"], "node_id": node["node_id"], "gpus": gpus, "movable": movable}]
