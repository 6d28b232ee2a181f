"""The audit accepts every placement of the solver and catches each planted fault (laws 1 to 3)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from engine.domain.errors import Refused
from engine.market.audit import faults_of
from engine.market.decide import terms_of
from engine.market.lease_terms import Terms
from engine.market.state import MarketState
from tests.market.books import NoBook
from tests.solvers.laws import Asked
from tests.worlds import world_from_seed

SEEDS = range(250)


def audited(seed: int) -> tuple[MarketState, Terms] | None:
    asked = Asked(world_from_seed(seed))
    state = MarketState(inventory=asked.inventory)
    try:
        return state, terms_of(state, asked.request, NoBook())
    except Refused:
        return None


CASES = [case for seed in SEEDS if (case := audited(seed)) is not None]


def changed(terms: Terms, **fields: object) -> Terms:
    return msgspec.structs.replace(terms, **fields)


def with_request(terms: Terms, **fields: object) -> Terms:
    return changed(terms, request=msgspec.structs.replace(terms.request, **fields))


def columns(terms: Terms, nodes: np.ndarray, gpus: np.ndarray, prices: np.ndarray) -> Terms:
    return changed(
        terms,
        nodes=nodes.astype("<i4").tobytes(),
        gpus=gpus.astype("<i4").tobytes(),
        prices_micro_usd_per_gpu_hour=prices.astype("<i8").tobytes(),
        rate_micro_usd_per_hour=int(gpus @ prices),
    )


def drop_a_node(state: MarketState, terms: Terms) -> Terms:
    return columns(terms, terms.node_numbers[1:], terms.gpus_per_node[1:], terms.prices[1:])


def overfill(state: MarketState, terms: Terms) -> Terms:
    gpus = terms.gpus_per_node.copy()
    gpus[0] += 1_000
    return columns(terms, terms.node_numbers, gpus, terms.prices)


def swap_for_any_other_node(state: MarketState, terms: Terms) -> Terms:
    """Use the worst other node with room: it breaks whichever constraint the world has."""
    inventory = state.inventory
    nodes = terms.node_numbers
    others = np.setdiff1d(np.flatnonzero(inventory.free >= terms.gpus_per_node[0]), nodes)
    if not others.size:
        return terms
    worst = others[np.argmin(inventory.nodes.tier[others])]
    nodes = nodes.copy()
    nodes[0] = worst
    prices = np.maximum(inventory.nodes.ask_micro_usd[nodes], inventory.posted[nodes])
    return columns(terms, nodes, terms.gpus_per_node, prices)


def wrong_sum(state: MarketState, terms: Terms) -> Terms:
    return changed(terms, rate_micro_usd_per_hour=terms.rate_micro_usd_per_hour - 1)


def wrong_total(state: MarketState, terms: Terms) -> Terms:
    return changed(terms, total_micro_usd=terms.total_micro_usd + 1)


def below_the_ask(state: MarketState, terms: Terms) -> Terms:
    return columns(terms, terms.node_numbers, terms.gpus_per_node, terms.prices - 1)


def bound_above_the_rate(state: MarketState, terms: Terms) -> Terms:
    return changed(terms, lower_bound_micro_usd_per_hour=terms.rate_micro_usd_per_hour + 1)


def node_that_is_leased(state: MarketState, terms: Terms) -> Terms:
    state.inventory.unused[terms.node_numbers[0]] -= 1_000
    return terms


def unknown_node(state: MarketState, terms: Terms) -> Terms:
    nodes = terms.node_numbers.copy()
    nodes[0] = state.inventory.node_ids.size
    return changed(terms, nodes=nodes.astype("<i4").tobytes())


def test_the_audit_accepts_what_the_solver_places() -> None:
    """Law: solver and audit, which share no code, agree on every placement."""
    assert len(CASES) > 100
    for state, terms in CASES:
        assert faults_of(state, terms) == []


ALWAYS = [drop_a_node, overfill, wrong_sum, wrong_total, below_the_ask, bound_above_the_rate, unknown_node]


@pytest.mark.parametrize("fault", ALWAYS)
def test_the_audit_catches_a_planted_fault(fault: Callable[[MarketState, Terms], Terms]) -> None:
    """Law 3: a placement with this fault never passes, in any world."""
    for state, terms in CASES:
        assert faults_of(state, fault(state, terms)), fault.__name__


def test_the_audit_catches_capacity_that_is_taken_meanwhile() -> None:
    """Law 1: GPUs that another lease took are not given twice."""
    for state, terms in CASES[:40]:
        node_that_is_leased(state, terms)
        assert "takes more GPUs than are free" in faults_of(state, terms)
        state.inventory.unused[terms.node_numbers[0]] += 1_000


def test_the_audit_names_each_broken_constraint() -> None:
    """Law 3: a node from elsewhere is found out, under the name of the rule it breaks, for every kind of rule."""
    named = {
        fault.split(",")[0]
        for state, terms in CASES
        for fault in faults_of(state, swap_for_any_other_node(state, terms))
    }
    for rule in (
        "uses a GPU model that was not asked for",
        "is below the security tier",
        "is below the connectivity tier",
        "is below the interconnect",
        "is below the reliability",
        "is too far from the client",
        "uses two sites that are too far from each other",
        "mixes GPU models",
        "is not on one fabric",
        "takes more than its share from a supplier",
        "uses an excluded supplier",
        "uses a supplier that was not allowed",
        "is above the price cap",
    ):
        assert rule in named, rule
