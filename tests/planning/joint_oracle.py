"""Slow, obvious twins of joint planning (docs/planning.md): the best welfare, and D(p) at given prices.

Rules of a single gang are those of `tests.oracles`; nothing is shared with `solvers/` or `engine/`. The optimum
does not ask for an order of moves (rule 6): where none exists for it, it is an upper bound on what may be written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ortools.sat.python import cp_model

from tests.oracles import (
    CLUSTER_RULES,
    DETERMINISTIC_SECONDS_MAX,
    NODE_RULES,
    RTT_TOLERANCE_MS,
    Case,
    ClusterModel,
    NotProvenError,
    Row,
    Rows,
)
from tests.planning.joint_worlds import JointWorld

Placement = dict[str, dict[str, int]]
"""request_id -> node_id -> GPUs; a request that is not served is not there."""


@dataclass(frozen=True)
class JointOptimum:
    """A proven best plan."""

    welfare_micro_usd_per_hour: int
    placement: Placement


class Standing:
    """What rules 1 to 4 say of one request: what it runs on, what must stay, what it is worth."""

    def __init__(self, world: JointWorld, request: Row) -> None:
        state = {node["node_id"]: node["state"] for node in world.fleet}
        rows = [row for row in world.placements if row["request_id"] == request["request_id"]]
        self.current = {row["node_id"]: row["gpus"] for row in rows}
        self.pinned = {
            row["node_id"]: row["gpus"] for row in rows if state[row["node_id"]] == "READY" and not row["movable"]
        }
        self.runs = bool(rows)
        self.displaced = any(state[row["node_id"]] != "READY" for row in rows)
        may_stop = self.displaced or (bool(request.get("interruptible")) and not self.pinned)
        self.must_serve = self.runs and not may_stop
        bonus = world.displaced_bonus_micro_usd if self.displaced else 0
        self.value = request["gpu_count"] * (request["max_price_micro_usd_per_gpu_hour"] + bonus)

    def moved(self, placed: Mapping[str, int]) -> int:
        return sum(max(0, gpus - placed.get(node_id, 0)) for node_id, gpus in self.current.items())


def capacities(world: JointWorld) -> dict[str, int]:
    """Rule 2, by node id."""
    movable = dict.fromkeys((node["node_id"] for node in world.fleet), 0)
    for row in world.placements:
        movable[row["node_id"]] += row["gpus"] if row["movable"] else 0
    return {
        node["node_id"]: node["gpu_free"] + movable[node["node_id"]] if node["state"] == "READY" else 0
        for node in world.fleet
    }


def welfare_of(world: JointWorld, placement: Placement) -> int:
    """W of rule 1 of a placement, feasible or not."""
    asks = {node["node_id"]: node["ask_micro_usd_per_gpu_hour"] for node in world.fleet}
    welfare = 0
    for request in world.requests:
        placed = placement.get(request["request_id"])
        if placed:
            standing = Standing(world, request)
            welfare += standing.value - sum(gpus * asks[node_id] for node_id, gpus in placed.items())
            welfare -= world.move_cost_micro_usd * standing.moved(placed)
    return welfare


class GangCase(Case):
    """The case of one gang whose room on a node is the plan's capacity and what it has pinned there."""

    def __init__(self, world: JointWorld, request: Row, standing: Standing) -> None:
        super().__init__(world.fleet, world.rtt, {}, request)
        self.room = {
            node_id: capacity + standing.pinned.get(node_id, 0) for node_id, capacity in capacities(world).items()
        }

    def free(self, node: Row) -> int:
        return self.room[node["node_id"]]


class Gang(ClusterModel):
    """x_j GPUs of node j, all of gpu_count or none, and m_j GPUs that leave node j."""

    def __init__(
        self,
        cp: cp_model.CpModel,
        world: JointWorld,
        request: Row,
        allowed: Callable[[Row], bool] = lambda _: True,
    ) -> None:
        self.standing, self.cp = Standing(world, request), cp
        self.case = GangCase(world, request, self.standing)
        self.nodes = [
            node
            for node in world.fleet
            if self.case.free(node) > 0
            and all(keeps(self.case, node) for keeps in NODE_RULES.values())
            and allowed(node)
        ]
        self.gpus = [cp.new_int_var(0, self.case.free(node), "") for node in self.nodes]
        self.used = [cp.new_bool_var("") for _ in self.nodes]
        self.served = cp.new_bool_var("")
        for node, gpus, used in zip(self.nodes, self.gpus, self.used, strict=True):
            cp.add(gpus >= used)
            cp.add(gpus <= self.case.free(node) * used)
        for name, rule in CLUSTER_RULES.items():
            if name != "max_price":
                rule(self)
        cp.add(sum(self.gpus) == request["gpu_count"] * self.served)
        if self.standing.must_serve:
            cp.add(self.served == 1)
        self.by_node = {node["node_id"]: gpus for node, gpus in zip(self.nodes, self.gpus, strict=True)}
        for node_id, gpus in self.standing.pinned.items():
            cp.add(self.by_node.get(node_id, 0) >= gpus * self.served)
        self.moved = [self._leaving(node_id, gpus) for node_id, gpus in self.standing.current.items()]

    def _leaving(self, node_id: str, current: int) -> Any:
        leaving = self.cp.new_int_var(0, current, "")
        self.cp.add(leaving >= current * self.served - self.by_node.get(node_id, 0))
        return leaving

    def beyond_pinned(self, node_id: str) -> Any:
        """GPUs that count against the capacity of the node."""
        return self.by_node.get(node_id, 0) - self.standing.pinned.get(node_id, 0) * self.served

    def cost(self, price: Mapping[str, int], move_cost: int) -> Any:
        """Σ price·x over everything, pinned or not, and the moves."""
        return sum(price[n] * gpus for n, gpus in self.by_node.items()) + move_cost * sum(self.moved)


def joint_optimum(
    fleet: Rows, rtt: Rows, requests: Rows, placements: Rows, move_cost: int, displaced_bonus: int
) -> JointOptimum:
    """The best plan, proven; NotProvenError if CP-SAT gives up."""
    rows = ([dict(row) for row in table] for table in (fleet, rtt, requests, placements))
    world = JointWorld(*rows, move_cost, displaced_bonus)
    cp = cp_model.CpModel()
    gangs = [Gang(cp, world, request) for request in world.requests]
    for node_id, capacity in capacities(world).items():
        cp.add(sum(gang.beyond_pinned(node_id) for gang in gangs) <= capacity)
    asks = {node["node_id"]: node["ask_micro_usd_per_gpu_hour"] for node in fleet}
    cp.maximize(sum(gang.standing.value * gang.served - gang.cost(asks, move_cost) for gang in gangs))
    solver = solved(cp)
    if solver is None:
        raise NotProvenError("what runs and must stay served could stay where it is")
    placement = {
        request["request_id"]: {n: solver.value(gpus) for n, gpus in gang.by_node.items() if solver.value(gpus)}
        for request, gang in zip(requests, gangs, strict=True)
        if solver.value(gang.served)
    }
    return JointOptimum(welfare_of(world, placement), placement)


def optimum_of(world: JointWorld) -> JointOptimum:
    tables = world.fleet, world.rtt, world.requests, world.placements
    return joint_optimum(*tables, world.move_cost_micro_usd, world.displaced_bonus_micro_usd)


def dual_of(world: JointWorld, price: Mapping[str, int]) -> int:
    """D(p) of rule 7 at integer prices by node id, the star bound where round trips are limited."""
    dual = 0
    for request in world.requests:
        standing, least = Standing(world, request), least_cost(world, request, price)
        gain = 0 if least is None else standing.value - least
        dual += gain if standing.must_serve else max(0, gain)
    capacity = capacities(world)
    for node in world.fleet:
        surplus = price[node["node_id"]] - node["ask_micro_usd_per_gpu_hour"]
        dual += capacity[node["node_id"]] * max(0, surplus)
    return dual


def least_cost(world: JointWorld, request: Row, price: Mapping[str, int]) -> int | None:
    """m_i(p); None if the request has no placement of its own."""
    standing, limit_ms = Standing(world, request), request.get("max_cluster_rtt_ms")
    if limit_ms is None or sum(standing.pinned.values()) == request["gpu_count"]:
        return _least_within(world, request, price, lambda _: True)
    case = GangCase(world, request, standing)
    room, size = capacities(world), request.get("gpus_per_node") or 1
    site_of = {node["node_id"]: node["site_id"] for node in world.fleet}
    pinned_sites = [site_of[node_id] for node_id in standing.pinned]

    def near(node: Row, sites: Sequence[str]) -> bool:
        return all(case.site_rtt_ms(site, node["site_id"]) <= limit_ms + RTT_TOLERANCE_MS for site in sites)

    costs = []
    for centre in world.fleet:
        keeps = all(rule(case, centre) for rule in NODE_RULES.values()) and near(centre, pinned_sites)
        if keeps and room[centre["node_id"]] >= size:

            def in_star(node: Row, centre: Row = centre) -> bool:
                one_model = request.get("allow_mixed_models") or node["gpu_model"] == centre["gpu_model"]
                one_fabric = not request.get("same_fabric") or node["fabric_id"] == centre["fabric_id"]
                in_reach = node["node_id"] in standing.pinned or near(node, [centre["site_id"], *pinned_sites])
                return bool(one_model and one_fabric and in_reach)

            costs.append(_least_within(world, request | {"max_cluster_rtt_ms": None}, price, in_star))
    return min((cost for cost in costs if cost is not None), default=None)


def _least_within(
    world: JointWorld, request: Row, price: Mapping[str, int], allowed: Callable[[Row], bool]
) -> int | None:
    cp = cp_model.CpModel()
    gang = Gang(cp, world, request, allowed)
    asks = {node["node_id"]: node["ask_micro_usd_per_gpu_hour"] for node in world.fleet}
    dearer = sum((asks[node_id] - price[node_id]) * gpus for node_id, gpus in gang.standing.pinned.items())
    cp.add(gang.served == 1)
    cp.minimize(gang.cost(price, world.move_cost_micro_usd))
    solver = solved(cp)
    return None if solver is None else round(solver.objective_value) + dearer


def solved(cp: cp_model.CpModel) -> cp_model.CpSolver | None:
    """A solver with a proven optimum; None = proven infeasible; anything else raises."""
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = DETERMINISTIC_SECONDS_MAX
    status = solver.solve(cp)
    if status == cp_model.INFEASIBLE:
        return None
    if status != cp_model.OPTIMAL or not math.isfinite(solver.objective_value):
        raise NotProvenError(solver.status_name(status))
    return solver
