"""Explanations are computed, and true (DESIGN section 2, "No is an answer")."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from engine.market.demand import demand_of
from engine.market.explain import Explanation, explain
from engine.market.state import MarketState
from solvers.placement import Placement
from tests.full_size import size
from tests.market.books import NoBook
from tests.oracles import max_gpus
from tests.solvers.laws import Asked
from tests.tight_worlds import tight_world_from_seed
from tests.worlds import world_from_seed

ORACLE_NAMES = {
    "regions": "location",
    "countries": "location",
    "sites": "location",
    "excluded_regions": "excluded_location",
    "excluded_countries": "excluded_location",
    "excluded_sites": "excluded_location",
    "max_client_rtt_ms": "client_rtt",
    "min_security_tier": "security_tier",
    "min_connectivity_tier": "connectivity",
    "min_interconnect": "interconnect",
    "min_reliability": "reliability",
    "allowed_suppliers": "suppliers",
    "excluded_suppliers": "suppliers",
    "allow_mixed_models": "single_model",
    "max_cluster_rtt_ms": "cluster_rtt",
    "max_price_micro_usd_per_gpu_hour": "max_price",
}

EXCLUDING = "excluded_regions", "excluded_countries", "excluded_sites", "excluded_suppliers"


def explained(asked: Asked) -> Explanation:
    return explain(MarketState(inventory=asked.inventory), asked.request, NoBook())


def oracle_name(constraint: str) -> str:
    first = constraint.split(",")[0]
    return ORACLE_NAMES.get(first, first)


def test_counts_equal_the_twins() -> None:
    """Law: alone, cumulative and without are the most GPUs that CP-SAT can take under those constraints."""
    worlds = [draw(seed) for draw in (world_from_seed, tight_world_from_seed) for seed in range(size(15, 60))]
    for seed, drawn in enumerate(worlds):
        asked = Asked(drawn)
        world, rows = asked.world, explained(asked).constraints
        names = [oracle_name(row.constraint) for row in rows]
        for index, row in enumerate(rows):
            for counted, kept in (
                (row.gpus_alone, {names[index]}),
                (row.gpus_cumulative, set(names[: index + 1])),
                (row.gpus_without, set(names) - {names[index]}),
            ):
                assert row.exact
                expected = max_gpus(world.fleet, world.rtt, world.posted, world.request, kept)
                assert counted == expected, f"seed {seed}, {row.constraint}, {sorted(kept)}"


def test_a_request_is_feasible_exactly_if_the_twin_says_so() -> None:
    """Law: explain and deploy never disagree, and a refusal always has a typed reason and a sentence."""
    for seed in range(size(45, 150)):
        asked = Asked(world_from_seed(seed))
        explanation = explained(asked)
        assert (explanation.terms is not None) == (asked.optimum is not None)
        if explanation.terms is None:
            assert explanation.reason == explanation.reason.upper() != ""
            assert explanation.detail


def test_every_relaxation_was_solved_and_the_refused_request_had_none_to_spare() -> None:
    """Law: each relaxation changes one field, is feasible, and costs what it says; they come cheapest first."""
    seen: set[str] = set()
    for seed in range(size(150, 250)):
        asked = Asked(world_from_seed(seed))
        if asked.optimum is not None:
            continue
        relaxations = explained(asked).relaxations
        rates = [relaxation.rate_micro_usd_per_hour for relaxation in relaxations]
        assert rates == sorted(rates)
        for relaxation in relaxations:
            seen.add(relaxation.field)
            value = {
                "gpu_count": lambda text: int(text),
                "gpus_per_node": lambda text: int(text),
                "max_client_rtt_ms": lambda text: float(text),
                "max_cluster_rtt_ms": lambda text: float(text),
                "max_price_micro_usd_per_gpu_hour": lambda text: int(text),
                "same_fabric": lambda text: text == "true",
                "allow_mixed_models": lambda text: text == "true",
            }.get(relaxation.field)
            if value is None:
                continue
            changed = replace(asked.request, **{relaxation.field: value(relaxation.to_value)})
            found = asked.inventory.placer.place(demand_of(asked.inventory, changed, changed.gpu_models))
            assert isinstance(found, Placement)
            assert found.rate == relaxation.rate_micro_usd_per_hour
    assert {"gpu_count", "max_price_micro_usd_per_gpu_hour", "max_cluster_rtt_ms"} <= seen


def single_list_changes(asked: Asked, field: str) -> Iterator[tuple[str, ...]]:
    """Every list that has one name more (of those that allow) or less (of those that forbid)."""
    names: tuple[str, ...] = getattr(asked.request, field)
    known = {
        "gpu_models": asked.inventory.models,
        "regions": asked.inventory.regions,
        "countries": asked.inventory.countries,
        "allowed_suppliers": asked.inventory.suppliers,
    }.get(field)
    if known is None:
        yield from (tuple(other for other in names if other != name) for name in names)
        if len(names) > 1:
            yield ()
    elif names:
        yield from (tuple(sorted((*names, name))) for name in known.names if name not in names)
        if field in ("gpu_models", "allowed_suppliers"):
            yield ()


def refused_worlds(seeds: int) -> Iterator[tuple[int, Asked]]:
    """Worlds without a price cap whose request, for a model in every other, is refused: what served it is gone."""
    for seed in range(seeds):
        asked = Asked(world_from_seed(seed))
        if seed % 2:
            models = asked.inventory.models.names[:1]
            asked.request = replace(asked.request, gpu_models=tuple(models), allow_mixed_models=False)
            asked.demand = demand_of(asked.inventory, asked.request, frozenset(models))
        if asked.request.max_price_micro_usd_per_gpu_hour is not None:
            continue
        while (found := asked.place()) is not None:
            asked.inventory.lease(found.nodes, asked.inventory.free[found.nodes])
        yield seed, asked


def test_no_change_of_a_list_is_missed() -> None:
    """Law: what is not tried, because dropping the whole list would not help, would not have helped.

    One name added or taken away is shown rather than the list dropped, where it costs no more.
    """
    helped, tried = set[str](), 0
    for seed, asked in refused_worlds(size(130, 400)):
        shown = {found.field: found for found in explained(asked).relaxations}
        for field in ("gpu_models", "regions", "countries", "allowed_suppliers", *EXCLUDING):
            rates = dict[bool, int]()
            for names in single_list_changes(asked, field):
                changed, tried = replace(asked.request, **{field: names}), tried + 1
                found = asked.inventory.placer.place(demand_of(asked.inventory, changed, changed.gpu_models))
                if isinstance(found, Placement):
                    rates[not names] = min(found.rate, rates.get(not names, found.rate))
            if not rates:
                assert field not in shown, f"seed {seed}, {field}"
                continue
            assert shown[field].rate_micro_usd_per_hour == min(rates.values()), f"seed {seed}, {field}"
            assert (shown[field].to_value in ("any", "none")) == (min(rates, key=lambda d: (rates[d], d)))
            helped.add(field)
    assert tried > 50
    assert {"gpu_models", "allowed_suppliers"} <= helped
