"""Slow, obvious twins of the exact placement of one request (DESIGN section 2, CONTRACT files).

Nothing here shares code with `solvers/`. Rows are plain dicts with the CONTRACT's column names; a request
field that is missing, None or an empty list constrains nothing. Two oracles, beside `tests.checker`:

- `optimal_placement`: CP-SAT, first the lowest rate, then the fewest idle nodes broken at that rate;
- `max_gpus`: the most GPUs a fleet yields under a chosen subset of the constraints.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ortools.sat.python import cp_model

Row = Mapping[str, Any]
Rows = Sequence[Row]
Posted = Mapping[tuple[str, str, str], int]
"""(gpu_model, region, security_tier) -> micro-USD per GPU-hour; a market without an entry has no floor."""

SECURITY_TIERS = ("COMMUNITY", "VERIFIED", "SECURE", "CONFIDENTIAL")
CONNECTIVITY_TIERS = ("LOW", "MEDIUM", "HIGH", "ULTRA")
INTERCONNECTS = ("ETHERNET", "ROCE", "INFINIBAND")
RTT_TOLERANCE_MS = 1e-6
DETERMINISTIC_SECONDS_MAX = 600.0


@dataclass(frozen=True)
class Optimum:
    """A proven best placement: GPUs per node id, only nodes that give at least one."""

    rate_micro_usd_per_hour: int
    broken_nodes: int
    placement: dict[str, int]


class NotProvenError(RuntimeError):
    """CP-SAT stopped without a proof; a twin that guesses is worth nothing."""


# ------------------------------------------------------------------------------------------------ the case


class Case:
    """One question: what a node has and costs, and how far places are apart."""

    def __init__(self, fleet: Rows, rtt: Rows, posted: Posted, request: Row) -> None:
        self.fleet, self.posted, self.request = fleet, posted, request
        self.gpu_count: int = request["gpu_count"]
        self.gpus_per_node: int = request.get("gpus_per_node") or 1
        if self.gpu_count < 1 or self.gpu_count % self.gpus_per_node:
            raise ValueError("gpu_count must be a positive multiple of gpus_per_node")
        self.coordinates = {node["site_id"]: (node["latitude"], node["longitude"]) for node in fleet}
        self.measured_ms: dict[frozenset[str], float] = {}
        for row in rtt:
            pair = frozenset((row["site_a"], row["site_b"]))
            self.measured_ms[pair] = max(row["rtt_ms"], self.measured_ms.get(pair, 0.0))

    def price(self, node: Row) -> int:
        market = (node["gpu_model"], node["region"], node["security_tier"])
        return max(int(node["ask_micro_usd_per_gpu_hour"]), self.posted.get(market, 0))

    def free(self, node: Row) -> int:
        return int(node["gpu_free"]) if node["state"] == "READY" else 0

    def replicas_beside(self, node: Row) -> int:
        """Replicas that the node's CPU and memory could serve; 1,024 if neither is limited."""
        needs = ((self.request.get(name), node.get(name)) for name in ("cpu_milli", "memory_mib"))
        return min([1_024, *(has // need for need, has in needs if need is not None and has is not None)])

    def is_idle(self, node: Row) -> bool:
        """All GPUs are free, and the shape could use them all."""
        whole = self.free(node) == node["gpu_count"]
        return bool(whole and self.replicas_beside(node) >= node["gpu_count"] // self.gpus_per_node)

    def limit(self, field: str) -> Any:
        """The value of a request field, None where it constrains nothing (0 and 0.0 do constrain)."""
        value = self.request.get(field)
        return None if value == [] else value

    def site_rtt_ms(self, a: str, b: str) -> float:
        if a == b:
            return 0.0
        measured = self.measured_ms.get(frozenset((a, b)))
        if measured is not None:
            return measured
        if a not in self.coordinates or b not in self.coordinates:
            raise ValueError(f"no measured RTT between {a} and {b}, and one of them is not in the fleet")
        return formula_rtt_ms(*self.coordinates[a], *self.coordinates[b])

    def client_rtt_ms(self, site: str) -> float:
        latitude, longitude = self.limit("client_latitude"), self.limit("client_longitude")
        client_site = self.limit("client_site")
        if (latitude is None) != (longitude is None) or (latitude is None) == (client_site is None):
            raise ValueError("max_client_rtt_ms needs either both client coordinates or a client_site")
        if client_site is not None:
            return self.site_rtt_ms(client_site, site)
        return formula_rtt_ms(latitude, longitude, *self.coordinates[site])


def formula_rtt_ms(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """RTT of a pair nobody measured: 2.0 + 0.02 x great-circle km (haversine)."""
    phi_a, phi_b = math.radians(latitude_a), math.radians(latitude_b)
    half_lambda = math.radians(longitude_b - longitude_a) / 2
    h = math.sin((phi_b - phi_a) / 2) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_lambda) ** 2
    return 2.0 + 0.02 * 2 * 6371.0 * math.asin(min(1.0, math.sqrt(h)))


# -------------------------------------------------------------------------- rules that a node keeps or not


def node_has_a_wanted_model(case: Case, node: Row) -> bool:
    models = case.limit("gpu_models")
    return models is None or node["gpu_model"] in models


def node_is_named_by_a_given_location_list(case: Case, node: Row) -> bool:
    lists = {"regions": "region", "countries": "country", "sites": "site_id"}
    given = {column: case.limit(field) for field, column in lists.items() if case.limit(field) is not None}
    return not given or any(node[column] in names for column, names in given.items())


def node_is_in_no_excluded_location(case: Case, node: Row) -> bool:
    lists = {"excluded_regions": "region", "excluded_countries": "country", "excluded_sites": "site_id"}
    return not any(node[column] in (case.limit(field) or ()) for field, column in lists.items())


def node_is_near_the_client(case: Case, node: Row) -> bool:
    limit_ms = case.limit("max_client_rtt_ms")
    return limit_ms is None or case.client_rtt_ms(node["site_id"]) <= limit_ms + RTT_TOLERANCE_MS


def node_is_secure_enough(case: Case, node: Row) -> bool:
    tier = case.limit("min_security_tier")
    return tier is None or SECURITY_TIERS.index(node["security_tier"]) >= SECURITY_TIERS.index(tier)


def node_holds_every_certification(case: Case, node: Row) -> bool:
    return set(case.limit("certifications") or ()) <= set(node["certifications"] or ())


def node_is_connected_enough(case: Case, node: Row) -> bool:
    tier = case.limit("min_connectivity_tier")
    order = CONNECTIVITY_TIERS.index
    return tier is None or order(node["connectivity_tier"]) >= order(tier)


def node_is_interconnected_enough(case: Case, node: Row) -> bool:
    least = case.limit("min_interconnect")
    return least is None or INTERCONNECTS.index(node["interconnect"]) >= INTERCONNECTS.index(least)


def node_has_a_fabric_if_one_is_shared(case: Case, node: Row) -> bool:
    return not case.limit("same_fabric") or node["fabric_id"] is not None


def node_is_reliable_enough(case: Case, node: Row) -> bool:
    least = case.limit("min_reliability")
    return least is None or node["reliability"] >= least


def node_has_an_acceptable_supplier(case: Case, node: Row) -> bool:
    allowed, excluded = case.limit("allowed_suppliers"), case.limit("excluded_suppliers")
    supplier = node["supplier_id"]
    return (allowed is None or supplier in allowed) and (excluded is None or supplier not in excluded)


NODE_RULES: dict[str, Callable[[Case, Row], bool]] = {
    "gpu_models": node_has_a_wanted_model,
    "location": node_is_named_by_a_given_location_list,
    "excluded_location": node_is_in_no_excluded_location,
    "client_rtt": node_is_near_the_client,
    "security_tier": node_is_secure_enough,
    "certifications": node_holds_every_certification,
    "connectivity": node_is_connected_enough,
    "interconnect": node_is_interconnected_enough,
    "same_fabric": node_has_a_fabric_if_one_is_shared,
    "reliability": node_is_reliable_enough,
    "suppliers": node_has_an_acceptable_supplier,
}


# ------------------------------------------------------------------------- rules that bind nodes together


class ClusterModel:
    """x_j GPUs from each eligible node j, 0 <= x_j <= free_j, and whether j is used at all."""

    def __init__(self, case: Case, nodes: Rows) -> None:
        self.case, self.nodes = case, nodes
        self.cp = cp_model.CpModel()
        self.gpus = [self.cp.new_int_var(0, case.free(node), "") for node in nodes]
        self.used = [self.cp.new_bool_var("") for _ in nodes]
        for node, gpus, used in zip(nodes, self.gpus, self.used, strict=True):
            self.cp.add(gpus >= used)
            self.cp.add(gpus <= case.free(node) * used)

    @property
    def rate(self) -> Any:
        return sum(gpus * self.case.price(node) for node, gpus in zip(self.nodes, self.gpus, strict=True))

    def never_together(self, apart: Callable[[Row, Row], bool]) -> None:
        for (a, node_a), (b, node_b) in itertools.combinations(enumerate(self.nodes), 2):
            if apart(node_a, node_b):
                self.cp.add_bool_or(~self.used[a], ~self.used[b])


def every_node_gives_whole_replicas(model: ClusterModel) -> None:
    size = model.case.gpus_per_node
    if size > 1:
        for node, gpus in zip(model.nodes, model.gpus, strict=True):
            model.cp.add(gpus == size * model.cp.new_int_var(0, model.case.free(node) // size, ""))


def every_node_has_enough(field: str) -> Callable[[ClusterModel], None]:
    """The need of every replica that stands on a node, whole replicas only."""

    def rule(model: ClusterModel) -> None:
        need, size = model.case.limit(field), model.case.gpus_per_node
        for node, gpus in zip(model.nodes, model.gpus, strict=True):
            if need is not None and node.get(field) is not None:
                model.cp.add(gpus <= node[field] // need * size)

    return rule


def all_nodes_have_one_model(model: ClusterModel) -> None:
    if not model.case.limit("allow_mixed_models"):
        model.never_together(lambda a, b: a["gpu_model"] != b["gpu_model"])


def all_nodes_share_one_fabric(model: ClusterModel) -> None:
    if model.case.limit("same_fabric"):
        model.never_together(lambda a, b: a["fabric_id"] != b["fabric_id"])


def every_two_nodes_are_near_each_other(model: ClusterModel) -> None:
    limit_ms = model.case.limit("max_cluster_rtt_ms")
    if limit_ms is not None:
        rtt_ms = model.case.site_rtt_ms
        model.never_together(lambda a, b: rtt_ms(a["site_id"], b["site_id"]) > limit_ms + RTT_TOLERANCE_MS)


def no_supplier_gives_more_than_its_share(model: ClusterModel) -> None:
    share = model.case.limit("max_supplier_share")
    if share is not None:
        most = math.floor(share * model.case.gpu_count + 1e-9)
        for supplier in sorted({node["supplier_id"] for node in model.nodes}):
            given = zip(model.nodes, model.gpus, strict=True)
            model.cp.add(sum(gpus for node, gpus in given if node["supplier_id"] == supplier) <= most)


def the_average_price_is_within_the_cap(model: ClusterModel) -> None:
    cap = model.case.limit("max_price_micro_usd_per_gpu_hour")
    if cap is not None:
        model.cp.add(model.rate <= cap * sum(model.gpus))


CLUSTER_RULES: dict[str, Callable[[ClusterModel], None]] = {
    "gpus_per_node": every_node_gives_whole_replicas,
    "cpu_milli": every_node_has_enough("cpu_milli"),
    "memory_mib": every_node_has_enough("memory_mib"),
    "single_model": all_nodes_have_one_model,
    "same_fabric": all_nodes_share_one_fabric,
    "cluster_rtt": every_two_nodes_are_near_each_other,
    "max_supplier_share": no_supplier_gives_more_than_its_share,
    "max_price": the_average_price_is_within_the_cap,
}

CONSTRAINTS = frozenset(NODE_RULES) | frozenset(CLUSTER_RULES)


def cluster_model(case: Case, constraints: Iterable[str]) -> ClusterModel | None:
    """The model of every cluster that keeps the named constraints, of any size; None = no node is eligible."""
    names = set(constraints)
    if names - CONSTRAINTS:
        raise ValueError(f"unknown constraints: {sorted(names - CONSTRAINTS)}")
    node_rules = [rule for name, rule in NODE_RULES.items() if name in names]
    verdicts = [[rule(case, node) for rule in node_rules] for node in case.fleet]  # every rule, so errors show
    nodes = [n for n, verdict in zip(case.fleet, verdicts, strict=True) if all(verdict) and case.free(n) > 0]
    if not nodes:
        return None
    model = ClusterModel(case, nodes)
    for name, rule in CLUSTER_RULES.items():
        if name in names:
            rule(model)
    return model


# ------------------------------------------------------------------------------------------------ oracles


def optimal_placement(fleet: Rows, rtt: Rows, posted: Posted, request: Row) -> Optimum | None:
    """The lowest rate, then the fewest idle nodes broken at that rate; None = proven infeasible."""
    case = Case(fleet, rtt, posted, request)
    model = cluster_model(case, CONSTRAINTS)
    if model is None or sum(map(case.free, model.nodes)) < case.gpu_count:
        return None
    model.cp.add(sum(model.gpus) == case.gpu_count)

    model.cp.minimize(model.rate)
    cheapest = solved(model)
    if cheapest is None:
        return None
    rate = sum(case.price(node) * cheapest[node["node_id"]] for node in model.nodes)

    model.cp.add(model.rate == rate)
    model.cp.minimize(sum(idle_nodes_broken(model)))
    tidiest = solved(model)
    if tidiest is None:
        raise NotProvenError("the cheapest rate was reached once and then not again")
    broken = sum(is_broken(case, node, tidiest[node["node_id"]]) for node in model.nodes)
    return Optimum(rate, broken, {node_id: gpus for node_id, gpus in tidiest.items() if gpus > 0})


def max_gpus(fleet: Rows, rtt: Rows, posted: Posted, request: Row, constraints: set[str]) -> int:
    """The largest cluster, of any size, under the named constraints only (see CONSTRAINTS).

    Only READY nodes' free GPUs ever count. The supplier cap is taken of the request's gpu_count.
    """
    case = Case(fleet, rtt, posted, request)
    model = cluster_model(case, constraints)
    if model is None:
        return 0
    model.cp.maximize(sum(model.gpus))
    largest = solved(model)
    if largest is None:
        raise NotProvenError("the empty cluster keeps every constraint")
    return sum(largest.values())


def idle_nodes_broken(model: ClusterModel) -> list[Any]:
    """An indicator per idle node: used, and not whole. Minimising makes each as small as it can be."""
    indicators = []
    for node, gpus, used in zip(model.nodes, model.gpus, model.used, strict=True):
        if model.case.is_idle(node):
            whole, broken = model.cp.new_bool_var(""), model.cp.new_bool_var("")
            model.cp.add(gpus >= node["gpu_count"] * whole)
            model.cp.add(broken >= used - whole)
            indicators.append(broken)
    return indicators


def is_broken(case: Case, node: Row, gpus: int) -> bool:
    return case.is_idle(node) and 0 < gpus < int(node["gpu_count"])


def solved(model: ClusterModel) -> dict[str, int] | None:
    """GPUs per node id of a proven optimum; None = proven infeasible; anything else raises."""
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.cp_model_presolve = False  # models this small are solved sooner without
    solver.parameters.max_deterministic_time = DETERMINISTIC_SECONDS_MAX
    status = solver.solve(model.cp)
    if status == cp_model.INFEASIBLE:
        return None
    if status != cp_model.OPTIMAL:
        raise NotProvenError(solver.status_name(status))
    return {node["node_id"]: solver.value(gpus) for node, gpus in zip(model.nodes, model.gpus, strict=True)}
