"""A checker of a given placement, in plain Python, that shares no rule with the CP-SAT model of `tests.oracles`.

Even the great circle is computed another way (by chord), so that one slip cannot hide in both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.oracles import Posted, Row, Rows


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
    for node, gpus in cluster:
        found += _beside_violations(request, node, gpus)
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


def _beside_violations(request: Row, node: Row, gpus: int) -> Iterable[str]:
    replicas = gpus / (request.get("gpus_per_node") or 1)
    for field in ("cpu_milli", "memory_mib"):
        need, has = request.get(field), node.get(field)
        if need is not None and has is not None and replicas * need > has:
            yield f"{field}: {node['node_id']} has {has} {field}, {replicas} replicas need {need} each"


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
