"""Joint worlds with parts of GPUs, CPU and memory: worlds of `joint_worlds` in which some requests want such
things.

About half of the requests want a part, or CPU and memory beside their GPUs; most nodes have hardly enough of them,
some no limit. What runs was placed one after the other, with all of that, on cards of its own or shared ones.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from tests.oracles import NODE_RULES, Case, optimal_placement
from tests.planning.joint_worlds import (
    DISPLACED_BONUSES_MICRO_USD,
    MOVE_COSTS_MICRO_USD,
    JointWorld,
    Row,
    draw_joint_request,
)
from tests.tight_worlds import PARTS_MILLI
from tests.worlds import ASKS_MICRO_USD, SITES, chance, draw_fleet, draw_rtt

NEEDS = (("cpu_milli", (500, 1_000, 1_500, 4_000)), ("memory_mib", (1_024, 3_000, 8_192)))


def tight_joint_world_from_seed(seed: int, max_nodes: int = 7, max_requests: int = 9) -> JointWorld:
    random = Random(f"tight joint {seed}")
    sites = random.sample(sorted(SITES), random.choice((1, 2, 3)))
    rtt = draw_rtt(random, sites)
    fleet = draw_fleet(random, sites, random.randint(1, max_nodes))
    part_percent, need_percent = random.choice((30, 60, 90)), random.choice((0, 30, 60))
    for node in fleet:
        for name, sizes in NEEDS:
            node[name] = (
                random.choice(sizes) * random.randint(0, node["gpu_count"] + 2) if chance(random, 60) else None
            )
    requests = [
        with_needs(random, draw_joint_request(random, fleet, rtt, number), part_percent, need_percent)
        for number in range(random.randint(1, max_requests))
    ]
    runs = [request for request in requests if chance(random, 60)] if chance(random, 75) else []
    placements = draw_running(random, fleet, rtt, runs)
    busy = {row["node_id"] for row in placements}
    for node in fleet:
        if chance(random, 15 if node["node_id"] in busy else 5):
            node["state"] = random.choice(("DRAINING", "DOWN"))
    costs = random.choice(MOVE_COSTS_MICRO_USD), random.choice(DISPLACED_BONUSES_MICRO_USD)
    return JointWorld(fleet, rtt, requests, placements, *costs)


def with_needs(random: Random, request: Row, part_percent: int, need_percent: int) -> Row:
    if chance(random, part_percent):
        request = {k: v for k, v in request.items() if k not in ("gpus_per_node", "max_supplier_share")}
        request |= {"gpu_count": 1, "gpu_milli": random.choice((*PARTS_MILLI, 1_000))}
    for name, sizes in NEEDS:
        if chance(random, need_percent):
            request[name] = random.choice(sizes)
    return request


def draw_running(random: Random, fleet: list[Row], rtt: list[Row], requests: list[Row]) -> list[Row]:
    """Rows of those requests that find a place; their GPUs leave `gpu_free`, cards that parts share are GPUs."""
    rows: list[Row] = []
    cards: dict[str, Counter[int]] = {node["node_id"]: Counter() for node in fleet}
    taken: Counter[tuple[str, str]] = Counter()
    by_id = {node["node_id"]: node for node in fleet}
    for request in requests:
        asked = {name: value for name, value in request.items() if name != "max_price_micro_usd_per_gpu_hour"}
        now = [
            node
            | {"ask_micro_usd_per_gpu_hour": random.choice(ASKS_MICRO_USD)}
            | {k: None if node[k] is None else node[k] - taken[node["node_id"], k] for k, _ in NEEDS}
            for node in fleet
        ]
        movable = random.choice((True, True, False))
        if (request.get("gpu_milli") or 1_000) < 1_000:
            seat = draw_seat(random, Case(now, rtt, {}, asked), cards, request["gpu_milli"])
            placed = {} if seat is None else {seat[0]: 1}
        else:
            seat, found = None, optimal_placement(now, rtt, {}, asked)
            placed = found.placement if found else {}
        for node_id, gpus in placed.items():
            if seat is None or not cards[node_id][seat[1]]:
                by_id[node_id]["gpu_free"] -= gpus
            if seat is not None:
                cards[node_id][seat[1]] += request["gpu_milli"]
            for name, _ in NEEDS:
                taken[node_id, name] += gpus // (request.get("gpus_per_node") or 1) * (request.get(name) or 0)
            row = {"request_id": request["request_id"], "node_id": node_id, "gpus": gpus, "movable": movable}
            rows.append(row | {"card": None if seat is None else seat[1]})
    return rows


def draw_seat(random: Random, case: Case, cards: dict[str, Counter[int]], milli: int) -> tuple[str, int] | None:
    """(node id, card) for a part, a shared card more often than a whole one."""
    shared, whole = [], []
    for node in case.fleet:
        if all(rule(case, node) for rule in NODE_RULES.values()) and case.replicas_beside(node) > 0:
            used = +cards[node["node_id"]]
            shared += [(node["node_id"], card) for card, taken in used.items() if taken + milli <= 1_000]
            if node["gpu_free"]:
                whole += [(node["node_id"], card) for card in range(node["gpu_count"]) if card not in used]
    seats = shared if shared and (not whole or chance(random, 70)) else whole
    return random.choice(seats) if seats else None
