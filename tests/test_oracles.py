"""The oracles against arithmetic done by hand, against enumeration, and against each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.checker import violations
from tests.oracles import (
    CONSTRAINTS,
    Case,
    Optimum,
    formula_rtt_ms,
    is_broken,
    max_gpus,
    optimal_placement,
)
from tests.worlds import RULES_ABOUT_CLUSTERS, RULES_ABOUT_NODES, SITES, World, world_from_seed, worlds

Row = dict[str, Any]
H100_MARKET = ("H100", "us-east", "SECURE")


def node(node_id: str, ask: int = 10, *, site: str = "iad1", free: int | None = None, **other: Any) -> Row:
    region, country, latitude, longitude = SITES[site]
    row = {
        "node_id": node_id,
        "supplier_id": "s0",
        "gpu_model": "H100",
        "gpu_count": 8,
        "site_id": site,
        "region": region,
        "country": country,
        "latitude": latitude,
        "longitude": longitude,
        "security_tier": "SECURE",
        "certifications": ["SOC2"],
        "connectivity_tier": "HIGH",
        "reliability": 0.99,
        "ask_micro_usd_per_gpu_hour": ask,
        "interconnect": "ROCE",
        "fabric_id": "f0",
        "state": "READY",
    } | other
    return row | {"gpu_free": row["gpu_count"] if free is None else free}


def hop(a: str, b: str, rtt_ms: float) -> Row:
    return {"site_a": a, "site_b": b, "rtt_ms": rtt_ms}


def best(fleet: list[Row], gpu_count: int, *, rtt: Any = (), posted: Any = None, **request: Any) -> Any:
    """The optimum, which the checker must accept too."""
    asked = {"gpu_count": gpu_count, **request}
    found = optimal_placement(fleet, rtt, posted or {}, asked)
    if found is not None:
        assert violations(fleet, rtt, posted or {}, asked, found.placement) == []
    return found


def placed(fleet: list[Row], gpu_count: int, **request: Any) -> Any:
    found = best(fleet, gpu_count, **request)
    return found and found.placement


def broken_rules(fleet: list[Row], placement: dict[str, int], gpu_count: int, **request: Any) -> set[str]:
    """The names of the constraints that the checker says the placement breaks."""
    rtt, posted, prices = (
        request.pop(key, default) for key, default in (("rtt", ()), ("posted", {}), ("prices", None))
    )
    lines = violations(fleet, rtt, posted, {"gpu_count": gpu_count, **request}, placement, prices)
    return {line.split(":")[0] for line in lines}


# -------------------------------------------------------------------------------------- price and capacity


def test_the_cheapest_asks_win_and_the_rate_is_their_sum() -> None:
    fleet = [node("a", 30), node("b", 10), node("c", 20)]
    assert best(fleet, 12) == Optimum(8 * 10 + 4 * 20, 1, {"b": 8, "c": 4})


def test_a_posted_price_above_the_ask_is_what_is_paid() -> None:
    fleet = [node("a", 10), node("b", 40)]
    assert best(fleet, 16, posted={H100_MARKET: 25}) == Optimum(8 * 25 + 8 * 40, 0, {"a": 8, "b": 8})
    assert best(fleet, 8, posted={("A100", "us-east", "SECURE"): 25}) == Optimum(80, 0, {"a": 8})


def test_among_equal_rates_the_fewest_idle_nodes_are_broken() -> None:
    fleet = [node("idle", 10), node("partly", 20, free=3), node("rest", 15, free=5)]
    posted = {H100_MARKET: 25}
    assert best(fleet, 8, posted=posted) in (
        Optimum(200, 0, {"idle": 8}),
        Optimum(200, 0, {"partly": 3, "rest": 5}),
    )
    assert best(fleet, 7, posted=posted).broken_nodes == 0
    assert best(fleet, 9, posted=posted).broken_nodes == 0
    assert best(fleet, 8).broken_nodes == 0
    assert best(fleet, 7) == Optimum(70, 1, {"idle": 7}), "cost comes before fragmentation"


def test_only_ready_nodes_give_and_never_more_than_is_free() -> None:
    fleet = [node("a", 1, state="DRAINING"), node("b", 1, state="DOWN"), node("c", 9, free=5)]
    assert best(fleet, 5) == Optimum(45, 0, {"c": 5})
    assert best(fleet, 6) is None
    assert broken_rules(fleet, {"a": 5}, 5) == {"capacity"}
    assert broken_rules(fleet, {"c": 6}, 6) == {"capacity"}
    assert broken_rules(fleet, {"c": 5, "b": 0}, 5) == {"capacity"}
    assert best([], 1) is None


def test_gpus_come_in_whole_replicas_and_a_node_hosts_several() -> None:
    fleet = [node("a", 1, free=7), node("b", 5, free=4), node("c", 9)]
    assert placed(fleet, 9, gpus_per_node=3) == {"a": 6, "b": 3}
    assert placed(fleet, 8, gpus_per_node=4) == {"a": 4, "b": 4}
    assert placed(fleet, 16, gpus_per_node=8) is None
    assert broken_rules(fleet, {"a": 5, "b": 4}, 9, gpus_per_node=3) == {"gpus_per_node"}
    with pytest.raises(ValueError, match="multiple"):
        best(fleet, 10, gpus_per_node=3)


def test_a_cap_on_the_price_holds_for_the_average() -> None:
    fleet = [node("a", 10, free=3), node("b", 20)]
    assert best(fleet, 4, max_price_micro_usd_per_gpu_hour=13).rate_micro_usd_per_hour == 50
    assert best(fleet, 4, max_price_micro_usd_per_gpu_hour=12) is None
    assert broken_rules(fleet, {"b": 4}, 4, max_price_micro_usd_per_gpu_hour=19) == {"max_price"}
    cheap, cap = {"posted": {H100_MARKET: 20}}, {"max_price_micro_usd_per_gpu_hour": 19}
    assert best(fleet, 4, **cheap, **cap) is None, "the cap is on the price paid, not on the asks"
    assert broken_rules(fleet, {"a": 3}, 3, prices={"a": 10}, **cheap) == {"price"}
    assert broken_rules(fleet, {"a": 3}, 3, prices={}) == {"price"}
    assert broken_rules(fleet, {"a": 3}, 3, prices={"a": 20}, **cheap) == set()


# --------------------------------------------------------------------------------- rules about single nodes

# field(s), the column, its value on the cheap node that breaks the rule, and on the dear one that keeps it
NODE_RULES = [
    ({"gpu_models": ["H100", "A100"]}, "gpu_model", "L40S", "A100", "gpu_models"),
    ({"min_security_tier": "VERIFIED"}, "security_tier", "COMMUNITY", "VERIFIED", "security_tier"),
    ({"min_security_tier": "SECURE"}, "security_tier", "VERIFIED", "CONFIDENTIAL", "security_tier"),
    ({"certifications": ["SOC2", "TEE"]}, "certifications", ["SOC2"], ["TEE", "E2EE", "SOC2"], "certifications"),
    ({"certifications": ["SOC2"]}, "certifications", None, ["SOC2"], "certifications"),
    ({"min_connectivity_tier": "HIGH"}, "connectivity_tier", "MEDIUM", "ULTRA", "connectivity"),
    ({"min_interconnect": "ROCE"}, "interconnect", "ETHERNET", "INFINIBAND", "interconnect"),
    ({"min_reliability": 0.99}, "reliability", 0.9899999, 0.99, "reliability"),
    ({"allowed_suppliers": ["s1", "s9"]}, "supplier_id", "s0", "s1", "suppliers"),
    ({"excluded_suppliers": ["s0"]}, "supplier_id", "s0", "s1", "suppliers"),
    ({"same_fabric": True}, "fabric_id", None, "f1", "same_fabric"),
    ({"excluded_regions": ["us-east"]}, "region", "us-east", "us-west", "excluded_location"),
    ({"excluded_countries": ["US"]}, "country", "US", "CA", "excluded_location"),
    ({"excluded_sites": ["iad1"]}, "site_id", "iad1", "iad9", "excluded_location"),
    ({"regions": ["us-west"]}, "region", "us-east", "us-west", "location"),
]


@pytest.mark.parametrize(("request_fields", "column", "bad", "good", "name"), NODE_RULES)
def test_a_node_that_breaks_a_rule_is_passed_over(
    request_fields: Row, column: str, bad: Any, good: Any, name: str
) -> None:
    fleet = [node("bad", 1, **{column: bad}), node("good", 100, **{column: good})]
    assert placed(fleet, 8) == {"bad": 8}
    assert placed(fleet, 8, **request_fields) == {"good": 8}
    assert placed(fleet[:1], 1, **request_fields) is None, "not even alone"
    assert broken_rules(fleet, {"bad": 8}, 8, **request_fields) == {name}
    assert max_gpus(fleet, [], {}, {"gpu_count": 1, **request_fields}, {name}) == 8
    assert max_gpus(fleet, [], {}, {"gpu_count": 1, **request_fields}, set()) == 16


def test_a_missing_none_or_empty_field_constrains_nothing() -> None:
    fleet = [node("a", fabric_id=None, certifications=[])]
    fields = ("gpu_models", "regions", "excluded_sites", "certifications", "allowed_suppliers")
    others = ("gpus_per_node", "same_fabric", "max_client_rtt_ms", "max_supplier_share", "min_reliability")
    assert placed(fleet, 8, **{field: [] for field in fields}, **dict.fromkeys(others)) == {"a": 8}


def test_any_of_the_given_location_lists_may_name_a_node() -> None:
    fleet = [node("us", site="iad1"), node("ca", site="yyz1"), node("ie", site="dub1"), node("de", site="fra1")]
    assert placed(fleet, 24, regions=["us-east"], sites=["dub1"]).keys() == {"us", "ca", "ie"}
    assert placed(fleet, 16, countries=["CA"], regions=["eu-central"]).keys() == {"ca", "de"}
    assert placed(fleet, 25, regions=["us-east"], sites=["dub1"]) is None
    assert placed(fleet, 16, regions=["us-east"], sites=["dub1"], excluded_countries=["CA"]).keys() == {"us", "ie"}


# ------------------------------------------------------------------------------------------------- latency


def test_the_formula_is_two_ms_and_twenty_per_thousand_km() -> None:
    quarter_km = math.pi / 2 * 6371.0
    assert formula_rtt_ms(0, 0, 0, 90) == pytest.approx(2.0 + 0.02 * quarter_km, abs=1e-9)
    assert formula_rtt_ms(0, 0, 90, 17) == pytest.approx(2.0 + 0.02 * quarter_km, abs=1e-9)
    assert formula_rtt_ms(10, 170, 10, -170) == pytest.approx(formula_rtt_ms(10, 0, 10, 20), abs=1e-9)
    assert formula_rtt_ms(5, 5, 5, 5) == 2.0


def test_a_client_at_coordinates_is_never_nearer_than_the_formula() -> None:
    """Not even at a site, and not even if that site is measured."""
    place = {"client_latitude": 38.95, "client_longitude": -77.45, "rtt": [hop("iad1", "iad2", 0.1)]}
    fleet = [node("a")]
    assert placed(fleet, 8, **place, max_client_rtt_ms=2.0) == {"a": 8}
    assert placed(fleet, 8, **place, max_client_rtt_ms=2.0 - 0.9e-6) == {"a": 8}
    assert placed(fleet, 8, **place, max_client_rtt_ms=2.0 - 1.1e-6) is None
    assert broken_rules(fleet, {"a": 8}, 8, **place, max_client_rtt_ms=1.9) == {"client_rtt"}
    assert placed(fleet, 8, client_latitude=0.0, client_longitude=0.0, max_client_rtt_ms=50.0) is None


def test_a_client_at_a_site_uses_the_table_then_the_formula_then_fails() -> None:
    fleet = [node("near", 9, site="iad1"), node("far", 1, site="nyc1")]
    formula_ms = formula_rtt_ms(*SITES["iad1"][2:], *SITES["nyc1"][2:])
    assert placed(fleet, 8, client_site="iad1", max_client_rtt_ms=0.0) == {"near": 8}, "same site: 0"
    assert placed(fleet, 8, client_site="iad1", max_client_rtt_ms=formula_ms) == {"far": 8}
    assert placed(fleet, 8, client_site="iad1", max_client_rtt_ms=formula_ms - 2e-6) == {"near": 8}
    slow = [hop("nyc1", "iad1", 5.0), hop("iad1", "nyc1", 90.0)]
    assert placed(fleet, 8, client_site="iad1", max_client_rtt_ms=89.9, rtt=slow) == {"near": 8}
    assert placed(fleet, 8, client_site="iad1", max_client_rtt_ms=90.0, rtt=slow) == {"far": 8}
    assert broken_rules(fleet, {"far": 8}, 8, client_site="iad1", max_client_rtt_ms=89.9, rtt=slow) == {
        "client_rtt"
    }
    stranger = [hop("zzz9", "iad1", 3.0)]
    with pytest.raises(ValueError, match="zzz9"):
        best(fleet, 8, client_site="zzz9", max_client_rtt_ms=500.0, rtt=stranger)
    stranger.append(hop("nyc1", "zzz9", 4.0))
    assert placed(fleet, 8, client_site="zzz9", max_client_rtt_ms=3.5, rtt=stranger) == {"near": 8}
    assert placed(fleet, 8, client_site="zzz9") == {"far": 8}, "without a limit nobody asks where that is"


def test_a_limit_without_one_client_is_an_error() -> None:
    for client in (
        {},
        {"client_latitude": 1.0},
        {"client_latitude": 1.0, "client_longitude": 1.0, "client_site": "iad1"},
    ):
        with pytest.raises(ValueError, match="client"):
            best([node("a")], 1, max_client_rtt_ms=10.0, **client)


def test_every_two_nodes_are_within_the_cluster_limit() -> None:
    """a-b and b-c are near, a-c is not: no triangle inequality helps."""
    fleet = [node("a", 1, site="iad1"), node("b", 2, site="nyc1"), node("c", 1, site="sfo1")]
    rtt = [hop("iad1", "nyc1", 5.0), hop("nyc1", "sfo1", 7.0), hop("iad1", "sfo1", 7.1), hop("iad1", "iad1", 50.0)]
    assert placed(fleet, 16, rtt=rtt, max_cluster_rtt_ms=7.1) == {"a": 8, "c": 8}
    assert placed(fleet, 16, rtt=rtt, max_cluster_rtt_ms=7.0) in ({"a": 8, "b": 8}, {"b": 8, "c": 8})
    assert placed(fleet, 24, rtt=rtt, max_cluster_rtt_ms=7.0) is None
    assert placed(fleet, 24, rtt=rtt, max_cluster_rtt_ms=7.1 - 0.5e-6) is not None
    assert placed(fleet, 24, rtt=rtt, max_cluster_rtt_ms=7.1 - 1.5e-6) is None
    assert placed(fleet, 8, rtt=rtt, max_cluster_rtt_ms=0.0) is not None
    assert broken_rules(fleet, {"a": 8, "b": 8, "c": 8}, 24, rtt=rtt, max_cluster_rtt_ms=7.0) == {"cluster_rtt"}
    request = {"gpu_count": 1, "max_cluster_rtt_ms": 7.0}
    assert max_gpus(fleet, rtt, {}, request, {"cluster_rtt"}) == 16


def test_one_site_is_zero_ms_wide_and_two_at_one_place_are_two() -> None:
    fleet = [node("a"), node("b"), node("c", site="iad2")]
    assert placed(fleet, 16, max_cluster_rtt_ms=0.0) == {"a": 8, "b": 8}
    assert placed(fleet, 24, max_cluster_rtt_ms=1.99) is None
    assert placed(fleet, 24, max_cluster_rtt_ms=2.0) is not None


# --------------------------------------------------------------------------------- rules that bind together


def test_one_model_in_the_cluster_unless_mixing_is_allowed() -> None:
    fleet = [node("h", 1), node("a", 2, gpu_model="A100"), node("b", 9, gpu_model="A100")]
    assert placed(fleet, 16) == {"a": 8, "b": 8}
    assert placed(fleet, 16, allow_mixed_models=True) == {"h": 8, "a": 8}
    assert placed(fleet, 16, gpu_models=["H100", "A100"]) == {"a": 8, "b": 8}
    assert placed(fleet, 16, gpu_models=["H100"], allow_mixed_models=True) is None
    assert broken_rules(fleet, {"h": 8, "a": 8}, 16) == {"single_model"}


def test_the_nodes_share_one_fabric() -> None:
    fleet = [node("a", 1, fabric_id="x"), node("b", 1, fabric_id="y"), node("c", 9, fabric_id="y")]
    fleet += [node("d", 0, fabric_id=None), node("e", 0, fabric_id=None)]
    assert placed(fleet, 16, same_fabric=True) == {"b": 8, "c": 8}
    assert placed(fleet, 17, same_fabric=True) is None
    assert broken_rules(fleet, {"a": 8, "b": 8}, 16, same_fabric=True) == {"same_fabric"}
    assert broken_rules(fleet, {"d": 8, "e": 8}, 16, same_fabric=True) == {"same_fabric"}


def test_no_supplier_gives_more_than_its_share() -> None:
    fleet = [node("a", 1), node("b", 1), node("c", 5, supplier_id="s1"), node("d", 9, supplier_id="s2")]
    assert best(fleet, 10, max_supplier_share=0.5).rate_micro_usd_per_hour == 5 * 1 + 5 * 5
    assert best(fleet, 10, max_supplier_share=0.49).rate_micro_usd_per_hour == 4 * 1 + 4 * 5 + 2 * 9
    assert best(fleet, 12, max_supplier_share=0.3) is None
    assert broken_rules(fleet, {"a": 3, "b": 3, "c": 4}, 10, max_supplier_share=0.5) == {"max_supplier_share"}


def test_a_share_a_hair_under_a_whole_number_counts_as_whole() -> None:
    assert 0.29 * 100 < 29
    fleet = [node(f"n{i}", i, gpu_count=29, supplier_id=f"s{i}") for i in range(4)]
    assert placed(fleet, 100, max_supplier_share=0.29) == {"n0": 29, "n1": 29, "n2": 29, "n3": 13}


# ------------------------------------------------------------------------------------------------- max_gpus


def test_max_gpus_counts_beyond_the_request_and_under_the_named_rules_only() -> None:
    fleet = [
        node("a", 10, free=7),
        node("b", 30, supplier_id="s1"),
        node("c", 30, gpu_model="A100", supplier_id="s1"),
        node("down", state="DOWN"),
    ]
    request = {
        "gpu_count": 4,
        "gpus_per_node": 2,
        "max_supplier_share": 0.5,
        "max_price_micro_usd_per_gpu_hour": 20,
    }

    def most(*names: str, **more: Any) -> int:
        return max_gpus(fleet, [], {}, request | more, set(names))

    assert most() == 23
    assert most("gpus_per_node") == 6 + 8 + 8
    assert most("single_model") == 15
    assert most("single_model", allow_mixed_models=True) == 23
    assert most("max_supplier_share") == 4, "half of the 4 requested, from each of two suppliers"
    assert most("max_price") == 14, "7 at 10 balance 7 at 30"
    assert most("max_price", "gpus_per_node") == 12
    assert most("security_tier", "location", "client_rtt") == 23
    with pytest.raises(ValueError, match="speed"):
        most("speed")


def test_max_gpus_with_every_rule_is_enough_exactly_when_a_placement_of_that_size_exists() -> None:
    checked = 0
    for seed in range(150):
        world = world_from_seed(seed, max_nodes=6)
        if world.request.get("max_supplier_share") is not None:
            continue  # its cap follows the request's size
        most = max_gpus(world.fleet, world.rtt, world.posted, world.request, set(CONSTRAINTS))
        sized = world.request | {"gpu_count": most}
        if most:
            assert optimal_placement(world.fleet, world.rtt, world.posted, sized) is not None
        sized = world.request | {"gpu_count": most + (world.request.get("gpus_per_node") or 1)}
        assert optimal_placement(world.fleet, world.rtt, world.posted, sized) is None
        checked += 1
    assert checked > 50


# ------------------------------------------------------------------------------------------- against enumeration


def every_split(nodes: list[Row], gpus: int) -> Iterator[dict[str, int]]:
    """Every way to take that many GPUs from the nodes' free ones, the constraints aside."""
    if not nodes:
        if gpus == 0:
            yield {}
        return
    first, rest = nodes[0], nodes[1:]
    for taken in range(min(first["gpu_free"], gpus) + 1):
        for others in every_split(rest, gpus - taken):
            yield ({first["node_id"]: taken} if taken else {}) | others


def enumerated(world: World) -> tuple[int, int] | None:
    """(rate, idle nodes broken) of the best of all splits that the checker accepts."""
    case = Case(world.fleet, world.rtt, world.posted, world.request)
    by_id = {row["node_id"]: row for row in world.fleet}
    scores = [
        (
            sum(case.price(by_id[node_id]) * gpus for node_id, gpus in split.items()),
            sum(is_broken(case, by_id[node_id], gpus) for node_id, gpus in split.items()),
        )
        for split in every_split(world.fleet, case.gpu_count)
        if not violations(world.fleet, world.rtt, world.posted, world.request, split)
    ]
    return min(scores, default=None)


def test_enumeration_agrees_with_cp_sat_on_tiny_worlds() -> None:
    feasible = 0
    for seed in range(300):
        world = world_from_seed(seed, max_nodes=4)
        found = optimal_placement(world.fleet, world.rtt, world.posted, world.request)
        score = found and (found.rate_micro_usd_per_hour, found.broken_nodes)
        assert score == enumerated(world), f"seed {seed}"
        feasible += found is not None
    assert 100 < feasible < 290


def test_enumeration_agrees_with_max_gpus_on_tiny_worlds() -> None:
    """Under each rule alone, and under all of them; price and size follow the split, the supplier cap does not."""
    for seed in range(40):
        world = world_from_seed(seed, max_nodes=3)
        question = (world.fleet, world.rtt, world.posted, world.request)
        sizes = dict.fromkeys([*CONSTRAINTS, "everything"], 0)
        for takes in itertools.product(*(range(row["gpu_free"] + 1) for row in world.fleet)):
            split = {row["node_id"]: take for row, take in zip(world.fleet, takes, strict=True) if take}
            names = kept_names(world, split)
            if "capacity" in names:
                continue
            for name in sizes:
                if not names if name == "everything" else name not in names:
                    sizes[name] = max(sizes[name], sum(takes))
        assert sizes.pop("everything") == max_gpus(*question, set(CONSTRAINTS)), f"seed {seed}"
        assert sizes == {name: max_gpus(*question, {name}) for name in sizes}, f"seed {seed}"


def kept_names(world: World, split: dict[str, int]) -> set[str]:
    """What a split breaks if its own size is the cluster's size, the supplier cap staying the request's."""
    n, own_size = world.request["gpu_count"], world.request | {"gpu_count": max(1, sum(split.values()))}
    question = (world.fleet, world.rtt, world.posted)
    capped = {line.split(":")[0] for line in violations(*question, world.request | {"gpu_count": n}, split)}
    sized = {line.split(":")[0] for line in violations(*question, own_size, split)}
    return (capped & {"max_supplier_share"}) | (sized - {"max_supplier_share", "gpu_count"})


# ---------------------------------------------------------------------------------------------- the worlds


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_the_checker_accepts_every_optimum_and_no_spoilt_one(world: World) -> None:
    check_optimum(world)


def test_the_checker_accepts_every_optimum_of_seeded_worlds_and_no_spoilt_one() -> None:
    feasible = sum(check_optimum(world_from_seed(seed)) for seed in range(600))
    assert 0.5 <= feasible / 600 <= 0.7


def check_optimum(world: World) -> bool:
    question = (world.fleet, world.rtt, world.posted, world.request)
    found = optimal_placement(*question)
    if found is None:
        return False
    assert violations(*question, found.placement) == []
    node_id, gpus = next(iter(found.placement.items()))
    spoilt = [
        found.placement | {node_id: gpus + 1},
        found.placement | {node_id: 0},
        found.placement | {node_id: -gpus},
        {other: x for other, x in found.placement.items() if other != node_id},
        found.placement | {"nobody": 1},
        {},
    ]
    assert all(violations(*question, placement) for placement in spoilt)
    case = Case(*question)
    prices = {row["node_id"]: case.price(row) for row in world.fleet}
    assert violations(*question, found.placement, prices) == []
    assert violations(*question, found.placement, prices | {node_id: prices[node_id] - 1})
    return True


def test_worlds_are_valid_reproducible_and_use_every_field() -> None:
    seen: set[str] = set()
    for seed in range(600):
        world = world_from_seed(seed)
        assert world == world_from_seed(seed)
        assert_valid(world)
        seen |= {field for field, value in world.request.items() if value not in (None, [])}
    fields = """gpu_models allow_mixed_models gpus_per_node regions countries sites excluded_regions
        excluded_countries excluded_sites client_latitude client_longitude client_site max_client_rtt_ms
        max_cluster_rtt_ms min_security_tier certifications min_connectivity_tier min_interconnect same_fabric
        min_reliability allowed_suppliers excluded_suppliers max_supplier_share max_price_micro_usd_per_gpu_hour"""
    assert set(fields.split()) <= seen
    assert len(RULES_ABOUT_NODES) + len(RULES_ABOUT_CLUSTERS) == 13


def assert_valid(world: World) -> None:
    request = world.request
    n, replica = request["gpu_count"], request.get("gpus_per_node") or 1
    assert n >= 1
    assert n % replica == 0
    places = {(r["site_id"], r["region"], r["country"], r["latitude"], r["longitude"]) for r in world.fleet}
    assert len(places) == len({row["site_id"] for row in world.fleet})
    assert len({row["node_id"] for row in world.fleet}) == len(world.fleet) <= 12
    assert all(0 <= row["gpu_free"] <= row["gpu_count"] for row in world.fleet)
    share = request.get("max_supplier_share")
    assert share is None or (0 < share <= 1 and math.floor(share * n + 1e-9) >= replica)
    for wanted in ("regions", "countries", "sites"):
        assert not set(request.get(wanted) or ()) & set(request.get(f"excluded_{wanted}") or ())
    assert not set(request.get("allowed_suppliers") or ()) & set(request.get("excluded_suppliers") or ())
    assert request.get("max_client_rtt_ms", 0.0) >= 0.0
    assert request.get("max_cluster_rtt_ms", 0.0) >= 0.0
