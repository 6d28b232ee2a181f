"""A plan directory written from a twin's placement, by the rules of docs/planning.md and nothing of the engine."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from engine.planning import plan_files_schema as files
from tests.planning.joint_oracle import JointOptimum, Standing, dual_of, least_cost
from tests.planning.joint_worlds import JointWorld, Row, write

Price = Mapping[str, int]


def write_honest_plan(world: JointWorld, found: JointOptimum, price: Price, directory: Path) -> bool:
    """Write the whole directory; False, and nothing written, if no order of moves is found greedily."""
    moves = list(ordered_moves(world, found))
    if sum(map(len, moves)) != len(all_moves(world, found)):
        return False
    write(world, directory / "inputs")
    rows, refusals = list(plan_rows(world, found, price)), list(refusals_of(world, found))
    steps = [{"step": step, **row} for step, together in enumerate(moves) for row in together]
    shadow = [{"node_id": n, "shadow_price_micro_usd_per_gpu_hour": float(p)} for n, p in price.items()]
    for name, content, schema in (
        (files.PLAN_FILE, rows, files.PLAN_SCHEMA),
        (files.REFUSALS_FILE, refusals, files.REFUSALS_SCHEMA),
        (files.MOVES_FILE, steps, files.MOVES_SCHEMA),
        (files.NODE_PRICES_FILE, shadow, files.NODE_PRICES_SCHEMA),
    ):
        pl.DataFrame(content, schema=schema).write_parquet(directory / name)
    report = report_of(world, found, price, rows)
    report["inputs"] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (directory / "inputs").iterdir()
    }
    (directory / files.REPORT_FILE).write_text(json.dumps(report))
    return True


def list_price(world: JointWorld, price: Price) -> dict[str, int]:
    return {n["node_id"]: max(n["ask_micro_usd_per_gpu_hour"], price[n["node_id"]]) for n in world.fleet}


def plan_rows(world: JointWorld, found: JointOptimum, price: Price) -> Iterator[Row]:
    """Rule 8: what is above the asks is scaled down to the cap, then the asks."""
    due = list_price(world, price)
    ask = asks_of(world)
    caps = {r["request_id"]: r["gpu_count"] * r["max_price_micro_usd_per_gpu_hour"] for r in world.requests}
    for request_id, placed in found.placement.items():
        cap = caps[request_id]
        asks = sum(gpus * ask[n] for n, gpus in placed.items())
        above = sum(gpus * (due[n] - ask[n]) for n, gpus in placed.items())
        for node_id, gpus in sorted(placed.items()):
            charged = due[node_id]
            if asks > cap:
                charged = ask[node_id] * cap // asks
            elif asks + above > cap:
                charged = ask[node_id] + (due[node_id] - ask[node_id]) * (cap - asks) // above
            yield dict(zip(files.PLAN_SCHEMA, (request_id, node_id, gpus, charged), strict=True))


def asks_of(world: JointWorld) -> dict[str, int]:
    return {node["node_id"]: node["ask_micro_usd_per_gpu_hour"] for node in world.fleet}


def refusals_of(world: JointWorld, found: JointOptimum) -> Iterator[Row]:
    for request in world.requests:
        if request["request_id"] not in found.placement:
            standing, reason = Standing(world, request), "SCARCE_CAPACITY"
            if (at_asks := least_cost(world, request, asks_of(world))) is None:
                reason = "NO_FEASIBLE_PLACEMENT"
            elif at_asks > request["gpu_count"] * request["max_price_micro_usd_per_gpu_hour"]:
                reason = "PRICE_TOO_LOW"
            if standing.runs:
                reason = "DISPLACED" if standing.displaced else "PREEMPTED"
            yield {"request_id": request["request_id"], "reason": reason, "detail": "others are worth more"}


def all_moves(world: JointWorld, found: JointOptimum) -> list[Row]:
    """The fewest rows that turn now into the plan, of every request that moves, by request."""
    rows = []
    for request in world.requests:
        placed, current = found.placement.get(request["request_id"]), Standing(world, request).current
        if placed and current:
            leaving = [n for n in sorted(current) for _ in range(max(0, current[n] - placed.get(n, 0)))]
            entering = [n for n in sorted(placed) for _ in range(max(0, placed[n] - current.get(n, 0)))]
            for (source, target), gpus in Counter(zip(leaving, entering, strict=True)).items():
                row = {"request_id": request["request_id"], "from_node_id": source, "to_node_id": target}
                rows.append(row | {"gpus": gpus})
    return rows


def ordered_moves(world: JointWorld, found: JointOptimum) -> Iterator[list[Row]]:
    """Steps in the order in which they fit; ends early if none of what is left does."""
    room = Counter({node["node_id"]: node["gpu_free"] for node in world.fleet})
    for row in world.placements:
        if row["request_id"] not in found.placement:
            room[row["node_id"]] += row["gpus"]
    waiting: dict[str, list[Row]] = {}
    for move in all_moves(world, found):
        waiting.setdefault(move["request_id"], []).append(move)
    while waiting:
        fitting = (request_id for request_id, rows in waiting.items() if _fits(room, rows))
        request_id = next(fitting, None)
        if request_id is None:
            return
        rows = waiting.pop(request_id)
        _shift(room, rows)
        yield rows


def _shift(room: Counter[str], rows: list[Row]) -> None:
    for row in rows:
        room[row["from_node_id"]] += row["gpus"]
        room[row["to_node_id"]] -= row["gpus"]


def _fits(room: Counter[str], rows: list[Row]) -> bool:
    after = Counter(room)
    _shift(after, rows)
    return all(after[row["to_node_id"]] >= 0 for row in rows)


def report_of(world: JointWorld, found: JointOptimum, price: Price, rows: list[Row]) -> Row:
    welfare, bound = found.welfare_micro_usd_per_hour, math.ceil(dual_of(world, price))
    due = list_price(world, price)
    gap = (bound - welfare) / bound if bound > 0 else None
    return {
        "status": "OPTIMAL" if bound == welfare else "FEASIBLE",
        "requests": len(world.requests),
        "requests_served": len(found.placement),
        "gpus_placed": sum(row["gpus"] for row in rows),
        "welfare_micro_usd_per_hour": welfare,
        "bound_micro_usd_per_hour": bound,
        "gap": 0.0 if bound == welfare else gap,
        "stronger_bound_micro_usd_per_hour": welfare,
        "stronger_gap": 0.0,
        "stronger_method": "CP-SAT",
        "make_whole_micro_usd_per_hour": sum(
            row["gpus"] * (due[row["node_id"]] - row["price_micro_usd_per_gpu_hour"]) for row in rows
        ),
        "move_cost_micro_usd": world.move_cost_micro_usd,
        "displaced_bonus_micro_usd": world.displaced_bonus_micro_usd,
    }
