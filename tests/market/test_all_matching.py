"""All that a budget pays for: the most GPUs, then the least cost, against asking for every number."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.domain.cluster_request import ClusterRequest, parse_cluster_request
from engine.domain.errors import InvalidInput, Refused
from engine.domain.tiers import SecurityTier
from engine.market import all_matching
from engine.market.audit import faults_of
from engine.market.explain import explain
from engine.market.lease_terms import Terms
from engine.market.state import MarketState
from engine.market.terms import terms_of
from tests.full_size import size
from tests.market.books import NoBook
from tests.market.small_market import SmallMarket
from tests.service.loopback import node
from tests.solvers.laws import Asked
from tests.worlds import world_from_seed


def outcome(state: MarketState, request: ClusterRequest) -> Terms | None:
    try:
        return terms_of(state, request, NoBook())
    except Refused:
        return None


def by_trying(state: MarketState, request: ClusterRequest, budget: int) -> Terms | None:
    """The terms of the largest number of GPUs that costs at most the budget."""
    best = None
    for gpus in range(request.gpus_per_node, int(state.inventory.free.sum()) + 1, request.gpus_per_node):
        found = outcome(state, replace(request, gpu_count=gpus))
        if found is not None and found.total_micro_usd <= budget:
            best = found
    return best


@pytest.mark.parametrize("first_seed", [0, 20, 40])
def test_the_most_gpus_then_the_least_cost(first_seed: int) -> None:
    """Law: with every constraint, no larger gang fits the budget, and it costs what that gang costs."""
    served = 0
    for seed in range(first_seed, first_seed + size(20, 200)):
        asked = Asked(world_from_seed(seed))
        state = MarketState(inventory=asked.inventory)
        request = replace(asked.request, max_supplier_share=None, interruptible=False, request_id="r")
        plain = outcome(state, replace(request, gpu_count=request.gpus_per_node))
        if plain is None:
            continue
        budget = plain.total_micro_usd * (1 + seed % 7) + seed % 3
        least = replace(request, gpu_count=request.gpus_per_node, all_matching=True, budget_micro_usd=budget)
        found, wanted = outcome(state, least), by_trying(state, request, budget)
        assert found is not None and wanted is not None, f"world_from_seed({seed})"
        assert found.request.gpu_count == wanted.request.gpu_count == found.gpu_count_bound, (
            f"world_from_seed({seed})"
        )
        assert found.total_micro_usd == wanted.total_micro_usd <= budget
        assert faults_of(state, found) == []
        served += 1
    assert served > 5


def market() -> SmallMarket:
    return SmallMarket(
        node(f"n{place}", ask_micro_usd_per_gpu_hour=ask)
        for place, ask in enumerate((2_000_000, 2_600_000, 9_000_000))
    )


@pytest.mark.parametrize(
    ("budget", "gpus"),
    [(2_500_000, 1), (20_000_000, 8), (22_599_999, 8), (22_600_000, 9), (40_800_000, 16), (10**12, 24)],
)
def test_what_a_budget_buys(budget: int, gpus: int) -> None:
    """Law: to the micro-dollar; the lease says how many, and another lease finds them taken."""
    place = market()
    lease = place.deploy(gpu_count=1, all_matching=True, budget_micro_usd=budget)
    assert lease.standing.request.gpu_count == gpus
    assert int(place.state.inventory.leased.sum()) == gpus
    assert lease.paid_micro_usd <= budget


def test_a_price_cap_holds_beside_the_budget() -> None:
    """Law: the average stays below the cap, however large the budget is."""
    place = market()
    wanted = {"all_matching": True, "budget_micro_usd": 10**12, "max_price_micro_usd_per_gpu_hour": 2_540_000}
    lease = place.deploy(gpu_count=1, **wanted)
    assert lease.standing.request.gpu_count == 13
    assert lease.terms.rate_micro_usd_per_hour <= 13 * 2_540_000


def test_a_budget_that_buys_too_little() -> None:
    """Law: refused with what the least would cost, which is also the way out that is shown."""
    place = market()
    request = ClusterRequest(gpu_count=16, all_matching=True, budget_micro_usd=30_000_000)
    found = explain(place.state, request, NoBook())
    assert (found.reason, found.terms) == ("BUDGET_MICRO_USD", None)
    assert [(way.field, way.to_value) for way in found.relaxations if way.field == "budget_micro_usd"] == [
        ("budget_micro_usd", "40800000")
    ]
    richer = replace(request, budget_micro_usd=40_800_000)
    assert terms_of(place.state, richer, NoBook()).request.gpu_count == 16


def test_a_relaxation_costs_what_the_budget_then_buys() -> None:
    """Law: the total told is that of the changed request, 20 GPUs and not the one that is the least."""
    place = SmallMarket(node(f"n{index}", security_tier="COMMUNITY") for index in range(4))
    request = ClusterRequest(
        gpu_count=1,
        all_matching=True,
        budget_micro_usd=40_000_000,
        min_security_tier=SecurityTier.SECURE,
    )
    (way,) = explain(place.state, request, NoBook()).relaxations
    assert (way.field, way.to_value) == ("min_security_tier", "COMMUNITY")
    quoted = terms_of(place.state, replace(request, min_security_tier=SecurityTier.COMMUNITY), NoBook())
    assert quoted.request.gpu_count > 10
    assert (way.total_micro_usd, way.rate_micro_usd_per_hour) == (
        quoted.total_micro_usd,
        quoted.rate_micro_usd_per_hour,
    )


BAD = {
    "no budget": ({"all_matching": True}, "budget_micro_usd"),
    "a budget alone": ({"gpu_count": 1, "budget_micro_usd": 5}, "budget_micro_usd"),
    "a share of nothing known": (
        {"all_matching": True, "budget_micro_usd": 5, "max_supplier_share": 0.5},
        "max_supplier_share",
    ),
    "a price that changes": (
        {"all_matching": True, "budget_micro_usd": 5, "interruptible": True},
        "interruptible",
    ),
    "no money": ({"all_matching": True, "budget_micro_usd": 0}, "budget_micro_usd"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_asked(case: str) -> None:
    """Law 9: contradictions are bad input."""
    raw, field = BAD[case]
    with pytest.raises(InvalidInput) as bad:
        parse_cluster_request(raw)
    assert [each.field for each in bad.value.violations] == [field]
    asked = parse_cluster_request({"all_matching": True, "budget_micro_usd": 5, "gpus_per_node": 4})
    assert asked.gpu_count == 4


def test_a_bisection_that_stops_short_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: one GPU fewer than the budget pays for."""
    monkeypatch.setattr(all_matching, "_last", lambda holds, first, most: 8)
    place = market()
    lease = place.deploy(gpu_count=1, all_matching=True, budget_micro_usd=22_600_000)
    wanted = by_trying(market().state, ClusterRequest(gpu_count=1), 22_600_000)
    assert wanted is not None and lease.standing.request.gpu_count < wanted.request.gpu_count
