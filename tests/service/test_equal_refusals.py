"""Equal refusals are explained once, and never with what is no longer true."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import Refused
from engine.market.explain import explain_refusal
from engine.market.terms import terms_of
from engine.service import refusals
from engine.service.cluster_codec import explanation_message
from engine.service.refusals import Refusals
from tests.market.small_market import SmallMarket
from tests.service.loopback import Book, node

WANTED = [ClusterRequest(gpu_count=gpus, gpu_models=("H100",), duration_s=3_600) for gpus in (4, 8, 16)]


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket([node("a", gpu_model="H100"), node("b", gpu_model="A100")])


@pytest.fixture
def explained() -> Iterator[list[ClusterRequest]]:
    """The requests that something was worked out for."""
    asked = list[ClusterRequest]()

    def noted(state: Any, request: ClusterRequest, refusal: Refused) -> Any:
        asked.append(request)
        return explain_refusal(state, request, refusal)

    with patch.object(refusals, "explain_refusal", noted):
        yield asked


def refusal_of(market: SmallMarket, request: ClusterRequest) -> Refused | None:
    try:
        terms_of(market.state, request, Book())
    except Refused as refusal:
        return refusal
    return None


def assert_told_as_it_is(known: Refusals, market: SmallMarket) -> int:
    """Every refused request is told what working it out anew gives; how many were refused."""
    refused = 0
    for number, request in enumerate(WANTED):
        if (refusal := refusal_of(market, request)) is not None:
            told = known.explained(market.state, request, refusal)
            anew = explain_refusal(market.state, request, refusal)
            assert told.error.reason == anew.reason, number
            assert told.error.message == anew.detail
            assert told.details == (explanation_message(anew),)
            refused += 1
    return refused


def test_each_change_is_seen_in_the_next_refusal(market: SmallMarket) -> None:
    """Law: whatever came in between, a refusal is explained on the state that it was decided on."""
    known, counts = Refusals(), list[int]()
    for _ in range(2):
        counts.append(assert_told_as_it_is(known, market))
        lease = market.deploy(gpu_models=("H100",), gpu_count=4)
        counts.append(assert_told_as_it_is(known, market))
        other = market.deploy(gpu_models=("H100",), gpu_count=4)
        counts.append(assert_told_as_it_is(known, market))
        market.publish(2_000_000, 3_000_000)
        counts.append(assert_told_as_it_is(known, market))
        market.release(lease)
        market.release(other)
    assert counts == [1, 2, 3, 3, 1, 2, 3, 3]


def test_equal_requests_are_explained_once(market: SmallMarket, explained: list[ClusterRequest]) -> None:
    """A flood of requests that differ in their ids only costs one explanation, until anything changes."""
    known, numbers, request = Refusals(), count(1), WANTED[2]
    for _ in range(3):
        refusal = refusal_of(market, ClusterRequest(16, f"r{next(numbers)}", ("H100",), duration_s=3_600))
        assert refusal is not None
        known.explained(market.state, request, refusal)
    assert len(explained) == 1
    market.deploy(gpu_models=("A100",), gpu_count=1)
    known.explained(market.state, request, refusal)
    assert len(explained) == 2


def test_a_kept_explanation_that_outlives_its_state_is_found(market: SmallMarket) -> None:
    """Planted: whoever forgets to look at the version tells of GPUs that are gone."""
    known = Refusals()
    assert_told_as_it_is(known, market)
    market.deploy(gpu_models=("H100",), gpu_count=4)
    known._version = market.state.version
    with pytest.raises(AssertionError):
        assert_told_as_it_is(known, market)
