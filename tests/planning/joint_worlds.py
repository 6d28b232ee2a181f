"""Small random joint worlds: a fleet, a queue and what runs now, valid by docs/planning.md rule 3.

Fleet, RTT and every single request come from `tests.worlds`, so each constraint bites somewhere. Some requests run
already: placed one after the other where their constraints hold, at asks of another day, so that moves can pay.
Then some nodes drain or fail under them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
from hypothesis import strategies as st

from engine.domain.table_schemas import FLEET_SCHEMA, PLACEMENTS_SCHEMA, REQUESTS_SCHEMA, RTT_SCHEMA
from tests.oracles import optimal_placement
from tests.worlds import ASKS_MICRO_USD, SITES, chance, draw_fleet, draw_request, draw_rtt

Row = dict[str, Any]

MOVE_COSTS_MICRO_USD = (0, 1_000, 150_000, 3_000_000)
DISPLACED_BONUSES_MICRO_USD = (0, 500_000, 10_000_000)


@dataclass(frozen=True)
class JointWorld:
    """What `walras plan` is asked; rows have the CONTRACT's column names."""

    fleet: list[Row]
    rtt: list[Row]
    requests: list[Row]
    placements: list[Row]
    move_cost_micro_usd: int
    displaced_bonus_micro_usd: int


def joint_worlds(max_nodes: int = 12, max_requests: int = 8) -> st.SearchStrategy[JointWorld]:
    """Worlds that shrink."""
    randoms = st.randoms(use_true_random=False)
    return randoms.map(lambda random: draw_joint_world(random, max_nodes, max_requests))


def joint_world_from_seed(seed: int, max_nodes: int = 12, max_requests: int = 8) -> JointWorld:
    """The same world for the same seed, at a fraction of Hypothesis's cost."""
    return draw_joint_world(Random(seed), max_nodes, max_requests)


def draw_joint_world(random: Random, max_nodes: int, max_requests: int) -> JointWorld:
    sites = random.sample(sorted(SITES), random.choice((1, 2, 3, 4, 6)))
    rtt = draw_rtt(random, sites)
    fleet = draw_fleet(random, sites, random.randint(random.choice((1, max_nodes // 2 + 1)), max_nodes))
    requests = [draw_joint_request(random, fleet, rtt, i) for i in range(random.randint(1, max_requests))]
    runs = [request for request in requests if chance(random, 60)] if chance(random, 75) else []
    placements = draw_running(random, fleet, rtt, runs)
    for node in fleet:
        if chance(random, 20 if any(row["node_id"] == node["node_id"] for row in placements) else 5):
            node["state"] = random.choice(("DRAINING", "DOWN"))
    costs = random.choice(MOVE_COSTS_MICRO_USD), random.choice(DISPLACED_BONUSES_MICRO_USD)
    return JointWorld(fleet, rtt, requests, placements, *costs)


def draw_joint_request(random: Random, fleet: list[Row], rtt: list[Row], number: int) -> Row:
    request = draw_request(random, fleet, rtt, {})
    mean = sum(node["ask_micro_usd_per_gpu_hour"] for node in fleet) // len(fleet)
    request.setdefault("max_price_micro_usd_per_gpu_hour", mean * random.choice((10, 8, 12, 20)) // 10 + 1)
    return request | {"request_id": f"r{number}", "interruptible": chance(random, 30)}


def draw_running(random: Random, fleet: list[Row], rtt: list[Row], requests: list[Row]) -> list[Row]:
    """Rows of those requests that find a place, one after the other; their GPUs leave `gpu_free`."""
    rows: list[Row] = []
    for request in requests:
        asked = {name: value for name, value in request.items() if name != "max_price_micro_usd_per_gpu_hour"}
        other_day = [node | {"ask_micro_usd_per_gpu_hour": random.choice(ASKS_MICRO_USD)} for node in fleet]
        found = optimal_placement(other_day, rtt, {}, asked)
        movable_percent = random.choice((100, 60, 0))
        for node_id, gpus in found.placement.items() if found else ():
            next(node for node in fleet if node["node_id"] == node_id)["gpu_free"] -= gpus
            movable = chance(random, movable_percent)
            row = {"request_id": request["request_id"], "node_id": node_id, "gpus": gpus, "movable": movable}
            rows.append(row)
    return rows


def write(world: JointWorld, directory: Path) -> None:
    """The input files of `walras plan`; what is empty and optional is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    tables = {
        "fleet": (world.fleet, FLEET_SCHEMA),
        "requests": (world.requests, REQUESTS_SCHEMA),
        "rtt": (world.rtt, RTT_SCHEMA),
        "placements": (world.placements, PLACEMENTS_SCHEMA),
    }
    for name, (rows, schema) in tables.items():
        if rows or name in ("fleet", "requests"):
            full = [dict.fromkeys(schema) | row for row in rows]
            pl.DataFrame(full, schema=schema).write_parquet(directory / f"{name}.parquet")
