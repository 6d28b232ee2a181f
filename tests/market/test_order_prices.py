"""What a standing order would pay at least, against a look at every node."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.cluster_request import ClusterRequest
from engine.market.inventory import Inventory
from engine.market.order_index import OrderIndex
from engine.market.order_prices import OrderPrices
from engine.market.orders import Order
from solvers.wake import NO_PRICE
from tests.market.upkept import Upkept
from tests.service.loopback import node

ASK = "ask_micro_usd_per_gpu_hour"
LIMIT = "max_price_micro_usd_per_gpu_hour"
PLACES = ("iad1", "fra1")
REQUESTS = st.builds(
    ClusterRequest,
    gpu_count=st.just(8),
    gpu_models=st.sampled_from([(), ("H100",), ("A100",)]),
    sites=st.sampled_from([(), ("iad1",), ("fra1",)]),
    min_reliability=st.sampled_from([None, 0.99]),
    interruptible=st.booleans(),
    max_price_micro_usd_per_gpu_hour=st.just(5_000_000),
)
PRICES = st.lists(st.integers(1, 9), min_size=8, max_size=8)


def inventory_of(asks: list[int]) -> Inventory:
    market, kinds = Upkept(), [(model, site) for model in ("H100", "A100") for site in PLACES]
    rows = []
    for number, ask in enumerate(asks):
        model, site = kinds[number % 4]
        rows.append(node(f"n{number}", gpu_model=model, site_id=site, reliability=0.9 + number / 80) | {ASK: ask})
    market.load(*rows)
    return market.state.inventory


def least_by_hand(inventory: Inventory, request: ClusterRequest) -> int:
    """The least of max(ask, posted price) over all nodes that keep the request's constraints."""
    nodes, found = inventory.nodes, NO_PRICE
    for place in range(inventory.node_ids.size):
        model = inventory.models.names[nodes.model[place]]
        site = inventory.sites.names.names[nodes.site[place]]
        if (request.gpu_models and model not in request.gpu_models) or (
            request.sites and site not in request.sites
        ):
            continue
        if request.min_reliability and nodes.reliability[place] < request.min_reliability:
            continue
        posted = 0 if request.interruptible else int(inventory.posted[place])
        found = min(found, max(int(nodes.ask_micro_usd[place]), posted))
    return int(found)


def check(asks: list[int], posted: list[int], requests: list[ClusterRequest]) -> None:
    inventory = inventory_of(asks)
    index = OrderIndex(inventory)
    for number, request in enumerate(requests):
        index.add(Order(f"o-{number}", "t", request, 0, 1, 0, False, 0, ""))
    was = inventory.posted_of_market
    inventory.post(np.array((posted * 2)[: inventory.markets.size], dtype=np.int64), "moved")
    fell = index.prices.moved()
    assert fell is not None and fell.tolist() == (inventory.posted_of_market < was).tolist()
    cheaper = index.prices.price(index.rows, fell)
    for number, request in enumerate(requests):
        by_hand = least_by_hand(inventory, request)
        assert index.prices.least_micro_usd[number] <= by_hand  # a pool may hold nodes that the order cannot take
        if request.min_reliability is None:
            assert index.prices.least_micro_usd[number] == by_hand
            assert cheaper[number] or not fell.any() or request.gpu_models or request.sites


@settings(max_examples=40, deadline=None)
@given(PRICES, PRICES, st.lists(REQUESTS, min_size=1, max_size=6))
def test_law_no_node_is_cheaper_than_the_least_price(
    asks: list[int], posted: list[int], requests: list[ClusterRequest]
) -> None:
    """Law: after every move of prices, an order's least price is that of the cheapest node that it may use, and
    where a market fell that any order may use, it is told."""
    check(asks, posted, requests)


def test_planted_markets_that_keep_their_price_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law above fails where a move of prices is noticed and its prices are not."""
    true = OrderPrices._see

    def half(self: OrderPrices) -> None:
        kept = getattr(self, "_by_kind", None)
        true(self)
        self._by_kind = self._by_kind if kept is None else kept

    monkeypatch.setattr(OrderPrices, "_see", half)
    with pytest.raises(AssertionError):
        check([1] * 8, [9] * 8, [ClusterRequest(8, gpu_models=("H100",), **{LIMIT: 5_000_000})])
