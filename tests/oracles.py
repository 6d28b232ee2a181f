"""Slow, obvious twins of the exact placement of one request (DESIGN section 2, CONTRACT files).

Nothing here shares code with `solvers/`. Rows are plain dicts with the CONTRACT's column names; a request
field that is missing, None or an empty list constrains nothing. Three oracles:

- `optimal_placement`: CP-SAT, first the lowest rate, then the fewest idle nodes broken at that rate;
- `violations`: a checker of a given placement, in plain Python, that shares no code with the model above it;
- `max_gpus`: the most GPUs a fleet yields under a chosen subset of the constraints.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
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
        if model.case.free(node) == node["gpu_count"]:
            whole, broken = model.cp.new_bool_var(""), model.cp.new_bool_var("")
            model.cp.add(gpus >= node["gpu_count"] * whole)
            model.cp.add(broken >= used - whole)
            indicators.append(broken)
    return indicators


def is_broken(case: Case, node: Row, gpus: int) -> bool:
    return bool(case.free(node) == node["gpu_count"] and 0 < gpus < node["gpu_count"])


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


# ------------------------------------------------------------------------------------------------ checker


def violations(
    fleet: Rows,
    rtt: Rows,
    posted: Posted,
    request: Row,
    placement: Mapping[str, int],
    prices: Mapping[str, int] | None = None,
) -> list[str]:
    """What is wrong with a placement, each line `constraint: sentence`; an empty list = all constraints hold.

    `placement` names the used nodes only. `prices` are the node prices somebody claims, micro-USD per GPU-hour:
    each must be max(ask, posted); None takes those for granted. Names of constraints are those of `max_gpus`,
    and `node`, `capacity`, `gpu_count` and `price`.
    """
    by_id = {node["node_id"]: node for node in fleet}
    found = [f"node: {node_id} is not in the fleet" for node_id in placement if node_id not in by_id]
    cluster = [(by_id[node_id], gpus) for node_id, gpus in placement.items() if node_id in by_id]
    found += _shape_violations(request, cluster, sum(placement.values()))
    for node, _ in cluster:
        found += [f"{name}: {node['node_id']} {text}" for name, text in _node_violations(request, node)]
        found += _client_violations(fleet, rtt, request, node)
    found += _together_violations(fleet, rtt, request, cluster)
    found += _price_violations(posted, request, cluster, prices)
    return found


def _shape_violations(request: Row, cluster: list[tuple[Row, int]], total: int) -> list[str]:
    found = []
    if total != request["gpu_count"]:
        found.append(f"gpu_count: {total} GPUs given, {request['gpu_count']} asked")
    replica = request.get("gpus_per_node") or 1
    for node, gpus in cluster:
        if node["state"] != "READY" or not 0 < gpus <= node["gpu_free"]:
            found.append(f"capacity: {node['node_id']} ({node['state']}, {node['gpu_free']}) cannot give {gpus}")
        if gpus % replica != 0:
            found.append(f"gpus_per_node: {node['node_id']} gives {gpus}, not whole replicas of {replica}")
    return found


def _node_violations(request: Row, node: Row) -> Iterable[tuple[str, str]]:
    wanted: Callable[[str], Any] = request.get
    if wanted("gpu_models") and node["gpu_model"] not in wanted("gpu_models"):
        yield "gpu_models", f"is a {node['gpu_model']}"
    regions, countries, sites = (wanted(k) or [] for k in ("regions", "countries", "sites"))
    if regions or countries or sites:
        here = node["region"] in regions or node["country"] in countries or node["site_id"] in sites
        if not here:
            yield "location", "is in no wanted place"
    if (
        node["region"] in (wanted("excluded_regions") or [])
        or node["country"] in (wanted("excluded_countries") or [])
        or node["site_id"] in (wanted("excluded_sites") or [])
    ):
        yield "excluded_location", "is in an excluded place"
    ladders = (
        ("security_tier", "min_security_tier", "security_tier", "COMMUNITY VERIFIED SECURE CONFIDENTIAL"),
        ("connectivity", "min_connectivity_tier", "connectivity_tier", "LOW MEDIUM HIGH ULTRA"),
        ("interconnect", "min_interconnect", "interconnect", "ETHERNET ROCE INFINIBAND"),
    )
    for name, field, column, steps in ladders:
        ladder = steps.split()
        if wanted(field) and node[column] not in ladder[ladder.index(wanted(field)) :]:
            yield name, f"is only {node[column]}"
    for certification in wanted("certifications") or []:
        if certification not in (node["certifications"] or []):
            yield "certifications", f"lacks {certification}"
    if wanted("min_reliability") is not None and node["reliability"] < wanted("min_reliability"):
        yield "reliability", f"has {node['reliability']}"
    if wanted("allowed_suppliers") and node["supplier_id"] not in wanted("allowed_suppliers"):
        yield "suppliers", f"belongs to {node['supplier_id']}, not allowed"
    if node["supplier_id"] in (wanted("excluded_suppliers") or []):
        yield "suppliers", f"belongs to {node['supplier_id']}, excluded"
    if wanted("same_fabric") and node["fabric_id"] is None:
        yield "same_fabric", "is on no fabric"


def _client_violations(fleet: Rows, rtt: Rows, request: Row, node: Row) -> list[str]:
    limit_ms = request.get("max_client_rtt_ms")
    if limit_ms is None:
        return []
    if request.get("client_site") is not None:
        rtt_ms = _checked_rtt_ms(fleet, rtt, request["client_site"], node["site_id"])
    else:
        client = (request["client_latitude"], request["client_longitude"])
        rtt_ms = 2.0 + 0.02 * _chord_km(client, (node["latitude"], node["longitude"]))
    if rtt_ms <= limit_ms + 1e-6:
        return []
    return [f"client_rtt: {node['node_id']} is {rtt_ms} ms from the client"]


def _together_violations(fleet: Rows, rtt: Rows, request: Row, cluster: list[tuple[Row, int]]) -> list[str]:
    found = []
    models = sorted({node["gpu_model"] for node, _ in cluster})
    if len(models) > 1 and not request.get("allow_mixed_models"):
        found.append(f"single_model: the cluster mixes {models}")
    if request.get("same_fabric") and len({node["fabric_id"] for node, _ in cluster}) > 1:
        found.append("same_fabric: the cluster spans several fabrics")
    if request.get("max_cluster_rtt_ms") is not None:
        sites = sorted({node["site_id"] for node, _ in cluster})
        for a, b in ((a, b) for a in sites for b in sites if a < b):
            rtt_ms = _checked_rtt_ms(fleet, rtt, a, b)
            if rtt_ms > request["max_cluster_rtt_ms"] + 1e-6:
                found.append(f"cluster_rtt: {a} and {b} are {rtt_ms} ms apart")
    if request.get("max_supplier_share") is not None:
        most = math.floor(request["max_supplier_share"] * request["gpu_count"] + 1e-9)
        given: Counter[str] = Counter()
        for node, gpus in cluster:
            given[node["supplier_id"]] += gpus
        found += [f"max_supplier_share: {s} gives {x}, at most {most}" for s, x in given.items() if x > most]
    return found


def _price_violations(
    posted: Posted, request: Row, cluster: list[tuple[Row, int]], prices: Mapping[str, int] | None
) -> list[str]:
    found, bill = [], 0
    for node, gpus in cluster:
        due = node["ask_micro_usd_per_gpu_hour"]
        floor = posted.get((node["gpu_model"], node["region"], node["security_tier"]))
        if floor is not None and floor > due:
            due = floor
        price = due if prices is None else prices.get(node["node_id"])
        if price != due:
            found.append(f"price: {node['node_id']} is charged {price}, due is {due}")
        bill += gpus * (due if price is None else price)
    cap = request.get("max_price_micro_usd_per_gpu_hour")
    if cap is not None and bill > request["gpu_count"] * cap:
        found.append(f"max_price: the bill is {bill} an hour, at most {request['gpu_count'] * cap}")
    return found


def _checked_rtt_ms(fleet: Rows, rtt: Rows, a: str, b: str) -> float:
    if a == b:
        return 0.0
    rows = [row["rtt_ms"] for row in rtt if {row["site_a"], row["site_b"]} == {a, b}]
    if rows:
        return float(max(rows))
    place = {node["site_id"]: (node["latitude"], node["longitude"]) for node in fleet}
    if a in place and b in place:
        return 2.0 + 0.02 * _chord_km(place[a], place[b])
    raise ValueError(f"the RTT between {a} and {b} cannot be known")


def _chord_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance by the straight chord through the Earth: the haversine, reached another way."""

    def on_unit_sphere(place: tuple[float, float]) -> tuple[float, float, float]:
        latitude, longitude = math.radians(place[0]), math.radians(place[1])
        return (
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        )

    chord = math.dist(on_unit_sphere(a), on_unit_sphere(b))
    return 6371.0 * 2 * math.asin(min(1.0, chord / 2))
