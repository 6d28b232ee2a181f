"""Slow, obvious twins of joint planning (docs/planning.md): the best welfare, and D(p) at given prices.

Rules of a single gang are those of `tests.oracles`; nothing is shared with `solvers/` or `engine/`. The optimum
does not ask for an order of moves (rule 6): where none exists for it, it is an upper bound on what may be written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
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
BESIDE = ("cpu_milli", "memory_mib")
FINEST = 840
"""A multiple of all sizes of replicas, so that what one of its GPUs needs is a whole number."""


def part_milli(request: Row) -> int:
    """Thousandths of one GPU, 0 of whole GPUs."""
    milli = request.get("gpu_milli") or 1_000
    return milli if milli < 1_000 else 0


def share(request: Row, money: int) -> int:
    """What a part pays of the whole, rounded up."""
    return math.ceil(Fraction(money * (part_milli(request) or 1_000), 1_000))


def exact_share(request: Row, money: int) -> Fraction:
    return Fraction(money * (part_milli(request) or 1_000), 1_000)


@dataclass(frozen=True)
class JointOptimum:
    """A proven best plan."""

    welfare_micro_usd_per_hour: int
    placement: Placement
    cards: Mapping[str, int] = field(default_factory=dict)
    """Of each part that is served."""


class Standing:
    """What rules 1 to 4 say of one request: what it runs on, what must stay, what it is worth."""

    def __init__(self, world: JointWorld, request: Row) -> None:
        state = {node["node_id"]: node["state"] for node in world.fleet}
        rows = [row for row in world.placements if row["request_id"] == request["request_id"]]
        self.current = {row["node_id"]: row["gpus"] for row in rows}
        self.card = rows[0].get("card") if rows else None
        self.pinned = {
            row["node_id"]: row["gpus"] for row in rows if state[row["node_id"]] == "READY" and not row["movable"]
        }
        self.runs = bool(rows)
        self.displaced = any(state[row["node_id"]] != "READY" for row in rows)
        may_stop = self.displaced or (bool(request.get("interruptible")) and not self.pinned)
        self.must_serve = self.runs and not may_stop
        bonus = world.displaced_bonus_micro_usd if self.displaced else 0
        self.value = share(request, request["gpu_count"] * (request["max_price_micro_usd_per_gpu_hour"] + bonus))

    def moved(self, placed: Mapping[str, int]) -> int:
        return sum(max(0, gpus - placed.get(node_id, 0)) for node_id, gpus in self.current.items())


def capacities(world: JointWorld) -> dict[str, int]:
    """Rule 2, by node id: cards that only movable parts share are whole GPUs."""
    movable = dict.fromkeys((node["node_id"] for node in world.fleet), 0)
    milli = {request["request_id"]: part_milli(request) for request in world.requests}
    fixed = fixed_cards(world)
    loose = set()
    for row in world.placements:
        if milli[row["request_id"]]:
            loose |= {(row["node_id"], row["card"])} - fixed.keys()
        else:
            movable[row["node_id"]] += row["gpus"] if row["movable"] else 0
    for node_id, _ in loose:
        movable[node_id] += 1
    return {
        node["node_id"]: node["gpu_free"] + movable[node["node_id"]] if node["state"] == "READY" else 0
        for node in world.fleet
    }


def fixed_cards(world: JointWorld) -> dict[tuple[str, int], int]:
    """Thousandths that pinned parts take of their cards, by node id and card."""
    milli = {request["request_id"]: part_milli(request) for request in world.requests}
    taken: Counter[tuple[str, int]] = Counter()
    for row in world.placements:
        if milli[row["request_id"]] and not row["movable"]:
            taken[row["node_id"], row["card"]] += milli[row["request_id"]]
    return dict(taken)


def beside_left(world: JointWorld, name: str, but: str = "") -> dict[str, int | None]:
    """CPU or memory that pinned rows leave, by node id; the rows of one request aside. None: not limited."""
    requests = {request["request_id"]: request for request in world.requests}
    left = {node["node_id"]: node.get(name) for node in world.fleet}
    for row in world.placements:
        request, there = requests[row["request_id"]], left[row["node_id"]]
        if there is not None and not row["movable"] and row["request_id"] != but:
            left[row["node_id"]] = there - row["gpus"] // (request.get("gpus_per_node") or 1) * (
                request.get(name) or 0
            )
    return left


def welfare_of(world: JointWorld, placement: Placement) -> int:
    """W of rule 1 of a placement, feasible or not."""
    asks = {node["node_id"]: node["ask_micro_usd_per_gpu_hour"] for node in world.fleet}
    welfare = 0
    for request in world.requests:
        placed = placement.get(request["request_id"])
        if placed:
            standing = Standing(world, request)
            welfare += standing.value - sum(share(request, gpus * asks[n]) for n, gpus in placed.items())
            welfare -= share(request, world.move_cost_micro_usd * standing.moved(placed))
    return welfare


class GangCase(Case):
    """The case of one gang whose room on a node is the plan's capacity and what it has pinned there."""

    def __init__(self, world: JointWorld, request: Row, standing: Standing) -> None:
        left = {name: beside_left(world, name, request["request_id"]) for name in BESIDE}
        fleet = [node | {name: left[name][node["node_id"]] for name in BESIDE} for node in world.fleet]
        super().__init__(fleet, world.rtt, {}, request)
        self.room = {
            node_id: capacity + standing.pinned.get(node_id, 0) for node_id, capacity in capacities(world).items()
        }
        if part_milli(request):
            seats = {node["node_id"]: self._has_seat(world, request, standing, node) for node in world.fleet}
            self.room = {node_id: int(has_seat) for node_id, has_seat in seats.items()}

    def _has_seat(self, world: JointWorld, request: Row, standing: Standing, node: Row) -> bool:
        if node["state"] != "READY":
            return False
        shared = [
            1_000 - taken for (node_id, _), taken in fixed_cards(world).items() if node_id == node["node_id"]
        ]
        own = node["node_id"] in standing.current
        return own or self.room[node["node_id"]] > 0 or any(left >= part_milli(request) for left in shared)

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
        self.standing, self.cp, self.request_id = Standing(world, request), cp, request["request_id"]
        self.case = GangCase(world, request, self.standing)
        self.nodes = [
            node
            for node in self.case.fleet
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

    def needs_a_gpu(self, name: str) -> int:
        """What a replica needs of CPU or memory, for each of its GPUs, times `FINEST`."""
        return int(FINEST * (self.case.request.get(name) or 0) // self.case.gpus_per_node)

    def beyond_pinned(self, node_id: str) -> Any:
        """GPUs that count against the capacity of the node."""
        return self.by_node.get(node_id, 0) - self.standing.pinned.get(node_id, 0) * self.served

    def cost(self, price: Mapping[str, int], move_cost: int, exact: bool = False) -> Any:
        """Σ price·x over everything, pinned or not, and the moves; if exact, a thousand times that, of a part its
        share without rounding."""
        request, unit = self.case.request, 1_000 if exact else 1
        due = {n: int(unit * (exact_share if exact else share)(request, price[n])) for n in self.by_node}
        moves = unit * share(request, move_cost) * sum(self.moved)
        return sum(due[n] * gpus for n, gpus in self.by_node.items()) + moves


class Seats:
    """z says that a part takes a card of a node, u that a card is opened which no pinned part shares."""

    def __init__(self, cp: cp_model.CpModel, world: JointWorld, gangs: Sequence[Gang]) -> None:
        self.parts = [gang for gang in gangs if part_milli(gang.case.request)]
        self.seat: dict[tuple[str, str, int], Any] = {}
        self.open: dict[tuple[str, int], Any] = {}
        fixed = fixed_cards(world)
        cards = [(node["node_id"], card) for node in world.fleet for card in range(node["gpu_count"])]
        for place in cards if self.parts else ():
            self.open[place] = 1 if place in fixed else cp.new_bool_var("")
            here = []
            for gang in self.parts:
                if place[0] in gang.by_node:
                    seat = self.seat[gang.case.request["request_id"], *place] = cp.new_bool_var("")
                    here.append(part_milli(gang.case.request) * seat)
                    at_home = place[0] in gang.standing.current
                    if gang.standing.pinned or (at_home and place[1] != gang.standing.card):
                        cp.add(seat == 0)
            cp.add(sum(here) <= 1_000 * self.open[place] - fixed.get(place, 0))
        for gang in self.parts:
            for node_id in gang.by_node:
                mine = [seat for (r, n, _), seat in self.seat.items() if (r, n) == (gang.request_id, node_id)]
                cp.add(sum(mine) == gang.beyond_pinned(node_id))

    def opened(self, node_id: str) -> list[Any]:
        return [
            opened for (node, _), opened in self.open.items() if node == node_id and not isinstance(opened, int)
        ]

    def chosen(self, solver: cp_model.CpSolver) -> dict[str, int]:
        cards = {gang.request_id: gang.standing.card for gang in self.parts if gang.standing.pinned}
        return cards | {request: card for (request, _, card), seat in self.seat.items() if solver.value(seat)}


def joint_optimum(
    fleet: Rows, rtt: Rows, requests: Rows, placements: Rows, move_cost: int, displaced_bonus: int
) -> JointOptimum:
    """The best plan, proven; NotProvenError if CP-SAT gives up."""
    rows = ([dict(row) for row in table] for table in (fleet, rtt, requests, placements))
    world = JointWorld(*rows, move_cost, displaced_bonus)
    cp = cp_model.CpModel()
    gangs = [Gang(cp, world, request) for request in world.requests]
    seats = Seats(cp, world, gangs)
    for node_id, capacity in capacities(world).items():
        whole = [gang.beyond_pinned(node_id) for gang in gangs if not part_milli(gang.case.request)]
        cp.add(sum(whole) + sum(seats.opened(node_id)) <= capacity)
        for name in BESIDE:
            left = beside_left(world, name)[node_id]
            if left is not None:
                given = (gang.beyond_pinned(node_id) * gang.needs_a_gpu(name) for gang in gangs)
                cp.add(sum(given) <= left * FINEST)
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
    return JointOptimum(welfare_of(world, placement), placement, seats.chosen(solver))


def optimum_of(world: JointWorld) -> JointOptimum:
    tables = world.fleet, world.rtt, world.requests, world.placements
    return joint_optimum(*tables, world.move_cost_micro_usd, world.displaced_bonus_micro_usd)


def dual_of(world: JointWorld, price: Mapping[str, int]) -> Fraction | int:
    """D(p) of rule 7 at integer prices by node id, the star bound where round trips are limited."""
    dual: Fraction | int = 0
    for request in world.requests:
        standing, least = Standing(world, request), least_cost(world, request, price)
        gain = 0 if least is None else standing.value - least
        dual += gain if standing.must_serve else max(0, gain)
    capacity = capacities(world)
    for node in world.fleet:
        surplus = price[node["node_id"]] - node["ask_micro_usd_per_gpu_hour"]
        dual += capacity[node["node_id"]] * max(0, surplus)
        for (node_id, _), taken in fixed_cards(world).items() if node["state"] == "READY" else ():
            dual += Fraction(1_000 - taken, 1_000) * max(0, surplus) * (node_id == node["node_id"])
    return dual


def least_cost(world: JointWorld, request: Row, price: Mapping[str, int]) -> Fraction | int | None:
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
        if keeps and (case.free(centre) if part_milli(request) else room[centre["node_id"]]) >= size:

            def in_star(node: Row, centre: Row = centre) -> bool:
                one_model = request.get("allow_mixed_models") or node["gpu_model"] == centre["gpu_model"]
                one_fabric = not request.get("same_fabric") or node["fabric_id"] == centre["fabric_id"]
                in_reach = node["node_id"] in standing.pinned or near(node, [centre["site_id"], *pinned_sites])
                return bool(one_model and one_fabric and in_reach)

            costs.append(_least_within(world, request | {"max_cluster_rtt_ms": None}, price, in_star))
    return min((cost for cost in costs if cost is not None), default=None)


def _least_within(
    world: JointWorld, request: Row, price: Mapping[str, int], allowed: Callable[[Row], bool]
) -> Fraction | int | None:
    cp = cp_model.CpModel()
    gang = Gang(cp, world, request, allowed)
    asks = {node["node_id"]: node["ask_micro_usd_per_gpu_hour"] for node in world.fleet}
    pinned = gang.standing.pinned.items()
    dearer = sum(share(request, asks[n] * gpus) - exact_share(request, price[n] * gpus) for n, gpus in pinned)
    cp.add(gang.served == 1)
    cp.minimize(gang.cost(price, world.move_cost_micro_usd, exact=True))
    solver = solved(cp)
    return None if solver is None else Fraction(round(solver.objective_value), 1_000) + dearer


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
