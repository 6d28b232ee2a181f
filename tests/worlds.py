"""Small random worlds in which every constraint of a cluster request bites.

A world is drawn around a hidden placement: most constraints are set so that it just keeps them (a limit sits
exactly on an RTT, a cap exactly on the bill), and in about half the worlds a few are drawn blindly or pulled
one notch too tight. So feasible and infeasible worlds are both common, and the edges are where errors
live. The hidden placement is never handed out: it is seldom the best one.

`worlds()` is a Hypothesis strategy that shrinks (towards few nodes and unconstrained requests);
`world_from_seed` draws from the same grammar with the same code, for long runs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.oracles import CONNECTIVITY_TIERS, INTERCONNECTS, NODE_RULES, SECURITY_TIERS, Case, Posted

Row = dict[str, Any]

# site_id: region, country, latitude, longitude. IAD1 and IAD2 share coordinates; regions cross borders.
SITES = {
    "iad1": ("us-east", "US", 38.95, -77.45),
    "iad2": ("us-east", "US", 38.95, -77.45),
    "nyc1": ("us-east", "US", 40.71, -74.01),
    "yyz1": ("us-east", "CA", 43.65, -79.38),
    "sfo1": ("us-west", "US", 37.77, -122.42),
    "dub1": ("eu-west", "IE", 53.35, -6.26),
    "lhr1": ("eu-west", "GB", 51.47, -0.45),
    "fra1": ("eu-central", "DE", 50.11, 8.68),
    "syd1": ("ap-south", "AU", -33.87, 151.21),
    "akl1": ("ap-south", "NZ", -36.85, 174.76),
}
STRANGER = "zzz9"  # a site outside the fleet, in some worlds measured to every site
MODELS = ("H100", "A100", "L40S")
SHAPES = ((8, 4, 2, 1, 3, 6), (8,), (8, 4, 2), (3, 2, 1), (4, 2, 6))  # GPUs a node, a tuple a world
CERTIFICATIONS = ("SOC2", "HIPAA", "ISO27001")
RELIABILITIES = (0.9, 0.95, 0.99, 0.999)
RTTS_MS = (1.0, 5.0, 0.5, 9.75, 20.0, 33.3, 80.0, 250.0)
ASKS_MICRO_USD = (1_000_000, 1_200_000, 800_000, 1_500_000, 1_234_567, 2_000_001, 1)
POSTED_MICRO_USD = (1_500_000, 1_300_000, 1_000_000, 1_700_003, 2_500_000, 1)


@dataclass(frozen=True)
class World:
    """What the oracles and the solver are both asked about; rows have the CONTRACT's column names."""

    fleet: list[Row]
    rtt: list[Row]
    posted: Posted
    request: Row


def worlds(max_nodes: int = 12) -> st.SearchStrategy[World]:
    """Worlds that shrink."""
    return st.randoms(use_true_random=False).map(lambda random: draw_world(random, max_nodes))


def world_from_seed(seed: int, max_nodes: int = 12) -> World:
    """The same world for the same seed, at a fraction of Hypothesis's cost."""
    return draw_world(Random(seed), max_nodes)


def draw_world(random: Random, max_nodes: int) -> World:
    sites = random.sample(sorted(SITES), random.choice((1, 2, 3, 4, 5, 6, 6)))
    rtt = draw_rtt(random, sites)
    fleet = draw_fleet(random, sites, random.randint(random.choice((1, max_nodes // 2 + 1, max_nodes)), max_nodes))
    posted = draw_posted(random, fleet)
    return World(fleet, rtt, posted, draw_request(random, fleet, rtt, posted))


def chance(random: Random, percent: int) -> bool:
    """True in `percent` of the draws; shrinks to False."""
    return random.randint(1, 100) > 100 - percent


# ------------------------------------------------------------------------------------------------- supply


def draw_rtt(random: Random, sites: list[str]) -> list[Row]:
    """Some pairs, some in both directions, with values that know nothing of the triangle inequality."""
    rows = []
    pairs = [(a, b) for a in sites for b in sites if a < b]
    for a, b in pairs:
        if chance(random, 60):
            a, b = (b, a) if chance(random, 50) else (a, b)
            rows.append({"site_a": a, "site_b": b, "rtt_ms": random.choice(RTTS_MS)})
            if chance(random, 25):
                rows.append({"site_a": b, "site_b": a, "rtt_ms": random.choice(RTTS_MS)})
    if chance(random, 40):
        rows += [{"site_a": STRANGER, "site_b": b, "rtt_ms": random.choice(RTTS_MS)} for b in sites]
    return rows


def draw_fleet(random: Random, sites: list[str], count: int) -> list[Row]:
    suppliers = [f"s{i}" for i in range(random.randint(2, 4))]
    models = MODELS[: random.choice((1, 2, 2, 3))]
    shapes = random.choice(SHAPES)
    asks = ASKS_MICRO_USD[: random.choice((2, 4, 7))]
    security, connectivity, interconnects, reliabilities = (
        random.sample(ladder, random.randint(1, 3))
        for ladder in (SECURITY_TIERS, CONNECTIVITY_TIERS, INTERCONNECTS, RELIABILITIES)
    )
    certified_percent = random.choice((90, 70, 40))
    fabric_per_site = not chance(random, 30)
    fleet = []
    for i in range(count):
        site = random.choice(sites)
        region, country, latitude, longitude = SITES[site]
        gpu_count = random.choice(shapes)
        fabric = f"f-{site}" if fabric_per_site else "f-" + random.choice("ab")
        fleet.append(
            {
                "node_id": f"n{i:02d}",
                "supplier_id": random.choice(suppliers),
                "gpu_model": random.choice(models),
                "gpu_count": gpu_count,
                "gpu_free": random.randint(0, gpu_count) if chance(random, 40) else gpu_count,
                "site_id": site,
                "region": region,
                "country": country,
                "latitude": latitude,
                "longitude": longitude,
                "security_tier": random.choice(security),
                "certifications": [c for c in CERTIFICATIONS if chance(random, certified_percent)],
                "connectivity_tier": random.choice(connectivity),
                "reliability": random.choice(reliabilities),
                "ask_micro_usd_per_gpu_hour": random.choice(asks),
                "interconnect": random.choice(interconnects),
                "fabric_id": None if chance(random, 30) else fabric,
                "state": random.choice(("DRAINING", "DOWN")) if chance(random, 10) else "READY",
            }
        )
    return fleet


def draw_posted(random: Random, fleet: list[Row]) -> dict[tuple[str, str, str], int]:
    """A price for every market of the fleet; often one of few levels above most asks, so that prices tie."""
    levels = POSTED_MICRO_USD[: random.choice((1, 2, 3, 6))]
    markets = sorted({(n["gpu_model"], n["region"], n["security_tier"]) for n in fleet})
    return {market: random.choice(levels) for market in markets}


# ------------------------------------------------------------------------------------------------- demand


Cluster = list[tuple[Mapping[str, Any], int]]
Rule = Callable[[Random, Case, Cluster, Row], None]


def draw_request(random: Random, fleet: list[Row], rtt: list[Row], posted: Posted) -> Row:
    largest = max(node["gpu_count"] for node in fleet)
    replica = random.choice([size for size in (1, 1, 1, 2, 4, 3, 8) if size <= largest])
    request: Row = {
        "request_id": "r",
        "tenant_id": "t",
        "submitted_at_us": 0,
        "gpu_count": replica,
        "duration_s": 3600,
        "interruptible": False,
    }
    if replica > 1 or chance(random, 30):
        request["gpus_per_node"] = replica
    if chance(random, 45):
        request["allow_mixed_models"] = chance(random, 85)
    if chance(random, 20):
        request["same_fabric"] = True
    blind_percent = random.choice((0, 0, 15, 30))

    def constrain_around(cluster: Cluster, rules: tuple[Rule, ...], activity_percent: int) -> None:
        case = Case(fleet, rtt, posted, request)
        for constrain in rules:
            if chance(random, activity_percent):
                blind = chance(random, blind_percent)
                constrain(random, case, [(random.choice(fleet), 1)] if blind else cluster, request)

    price = Case(fleet, rtt, posted, request).price
    dearest = sorted(random.sample(fleet, min(4, len(fleet))), key=price, reverse=True)
    anchors = dearest[: random.choice((1, 1, 2))]  # so that what the request excludes is cheap, and tempting
    constrain_around([(node, replica) for node in anchors], RULES_ABOUT_NODES, random.choice((5, 15, 25, 45)))
    hidden = hide_placement(random, Case(fleet, rtt, posted, request))
    request["gpu_count"] = sum(gpus for _, gpus in hidden)
    constrain_around(hidden, RULES_ABOUT_CLUSTERS, random.choice((20, 40, 70)))
    if chance(random, 25):
        request["gpu_count"] += replica * random.randint(1, 6)
    if chance(random, 20):
        request.setdefault(random.choice(("regions", "certifications")), random.choice(([], None)))
    return request


def hide_placement(random: Random, case: Case) -> Cluster:
    """A few replicas on eligible nodes of one model and fabric where those are asked; else anything."""
    request, replica = case.request, case.gpus_per_node
    nodes = [
        node
        for node in case.fleet
        if case.free(node) >= replica and all(keeps(case, node) for keeps in NODE_RULES.values())
    ]
    if not nodes:
        return [(random.choice(case.fleet), replica * random.randint(1, 4))]
    first = random.choice(nodes)
    if not request.get("allow_mixed_models"):
        nodes = [node for node in nodes if node["gpu_model"] == first["gpu_model"]]
    if request.get("same_fabric"):
        nodes = [node for node in nodes if node["fabric_id"] == first["fabric_id"]]
    chosen = random.sample(nodes, min(random.choice((1, 2, 3, 4, 5)), len(nodes)))
    if chance(random, 50):
        nearest = sorted(nodes, key=lambda node: case.site_rtt_ms(first["site_id"], node["site_id"]))
        chosen = nearest[: len(chosen)]
    return [(node, replica * random.randint(1, node["gpu_free"] // replica)) for node in chosen]


def values(cluster: Cluster, column: str) -> list[Any]:
    return sorted({node[column] for node, _ in cluster})


def with_others(random: Random, names: list[str], universe: list[str]) -> list[str]:
    """The names and some more: shuffled, never a duplicate."""
    both = sorted({*names, *(name for name in universe if chance(random, 30))})
    return random.sample(both, len(both))


def everywhere(case: Case, column: str) -> list[Any]:
    return sorted({node[column] for node in case.fleet})


def limit_ms(random: Random, exact_ms: float) -> float:
    """On the RTT; inside the tolerance; roomy; or just too tight. Never negative."""
    slack_ms = random.choice((0.0, 0.0, 0.0, -0.5e-6, 3.0)) if not chance(random, 8) else -2e-6
    return max(0.0, exact_ms + slack_ms)


def want_models(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    request["gpu_models"] = with_others(random, values(cluster, "gpu_model"), list(MODELS))


def want_places(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    """Each node is named by one of the three lists, so that their union matters."""
    columns = {"regions": "region", "countries": "country", "sites": "site_id"}
    lists = random.sample(sorted(columns), random.randint(1, 3))
    named: dict[str, set[str]] = {field: set() for field in lists}
    for site in values(cluster, "site_id"):
        field = random.choice(lists)
        node = next(node for node, _ in cluster if node["site_id"] == site)
        named[field].add(node[columns[field]])
    request |= {field: sorted(names) for field, names in named.items() if names}


def exclude_places(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    for field, column in (("regions", "region"), ("countries", "country"), ("sites", "site_id")):
        spare = set(values(cluster, column)) | set(request.get(field) or ())
        others = [name for name in everywhere(case, column) if name not in spare]
        if others and chance(random, 50):
            request[f"excluded_{field}"] = random.sample(others, random.randint(1, min(2, len(others))))


def bound_client_rtt(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    kind = random.choice(("coordinates", "fleet site", "stranger"))
    measured = frozenset((STRANGER, case.fleet[0]["site_id"])) in case.measured_ms
    if kind == "coordinates" or (kind == "stranger" and not measured):
        place = random.choice((*SITES.values(), ("", "", 0.0, 0.0), ("", "", 48.85, 2.35)))
        request["client_latitude"], request["client_longitude"] = place[2], place[3]
    elif kind == "fleet site":
        request["client_site"] = random.choice(everywhere(case, "site_id"))
    else:
        request["client_site"] = STRANGER
    farthest_ms = max(case.client_rtt_ms(site) for site in values(cluster, "site_id"))
    request["max_client_rtt_ms"] = limit_ms(random, farthest_ms)


def bound_cluster_rtt(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    sites = values(cluster, "site_id")
    widest_ms = max(case.site_rtt_ms(a, b) for a in sites for b in sites)
    request["max_cluster_rtt_ms"] = limit_ms(random, widest_ms or random.choice((0.0, *RTTS_MS)))


def bound_below(field: str, column: str, ladder: tuple[Any, ...]) -> Rule:
    """A minimum at the worst of the cluster's values, or one step under it."""

    def constrain(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
        worst = min(ladder.index(node[column]) for node, _ in cluster)
        request[field] = ladder[max(0, worst - random.choice((0, 0, 1)))]

    return constrain


def want_certifications(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    shared = [c for c in CERTIFICATIONS if all(c in node["certifications"] for node, _ in cluster)]
    if chance(random, 5):
        shared = [*shared, "E2EE"]
    request["certifications"] = [c for c in shared if chance(random, 70)]


def choose_suppliers(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    mine = values(cluster, "supplier_id")
    others = [s for s in everywhere(case, "supplier_id") if s not in mine]
    if chance(random, 50):
        request["allowed_suppliers"] = with_others(random, mine, others[1:])
    if others and chance(random, 60):
        request["excluded_suppliers"] = others[:1]


def bound_supplier_share(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    """At the largest supplier's share, written as the nearest float or rounded up to two digits."""
    given: Counter[str] = Counter()
    for node, gpus in cluster:
        given[node["supplier_id"]] += gpus
    most, n = min(case.gpu_count, max(*given.values(), case.gpus_per_node)), case.gpu_count
    if chance(random, 10):
        most = case.gpus_per_node
    share = random.choice((most / n, math.ceil(100 * most / n) / 100, (most + 0.5) / n))
    request["max_supplier_share"] = min(1.0, share)


def bound_price(random: Random, case: Case, cluster: Cluster, request: Row) -> None:
    """At the hidden placement's average rounded up, above it, or a little below."""
    average = -(-sum(case.price(node) * gpus for node, gpus in cluster) // sum(gpus for _, gpus in cluster))
    extra = random.choice((0, 0, 50_000, 400_000, -1, -100_000))
    request["max_price_micro_usd_per_gpu_hour"] = max(1, average + extra)


RULES_ABOUT_NODES: tuple[Rule, ...] = (
    want_models,
    want_places,
    exclude_places,
    bound_client_rtt,
    bound_below("min_security_tier", "security_tier", SECURITY_TIERS),
    want_certifications,
    bound_below("min_connectivity_tier", "connectivity_tier", CONNECTIVITY_TIERS),
    bound_below("min_interconnect", "interconnect", INTERCONNECTS),
    bound_below("min_reliability", "reliability", RELIABILITIES),
    choose_suppliers,
)
RULES_ABOUT_CLUSTERS: tuple[Rule, ...] = (bound_cluster_rtt, bound_supplier_share, bound_price)
