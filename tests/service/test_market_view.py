"""What the oracle sees of the market: what is kept from epoch to epoch changes nothing of it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.market import commands
from engine.oracle.markets import Bids
from engine.oracle.parameters import OracleParameters
from engine.service import market_view
from engine.service.market_view import Glimpse, ViewMaker, glimpse
from tests.market.upkept import Upkept
from tests.service.loopback import node

PARAMETERS = OracleParameters()


def market() -> Upkept:
    found = Upkept()
    found.load(
        node("h1"),
        node("h2", supplier_id="bolt"),
        node("a1", gpu_model="A100", site_id="fra1"),
        node("a2", gpu_model="A100"),
    )
    return found


def drawn(draw: random.Random) -> ClusterRequest:
    return ClusterRequest(
        draw.choice((1, 4, 8, 64)),
        gpu_models=draw.choice(((), ("H100",), ("A100",))),
        sites=draw.choice(((), ("fra1",))),
        max_price_micro_usd_per_gpu_hour=draw.choice((None, 1_000_000, 5_000_000)),
    )


def step(place: Upkept, draw: random.Random) -> None:
    """A lease, its end, an order, its end, a wish, or time."""
    request, kind = drawn(draw), draw.randrange(5)
    waiting, running = list(place.state.open_orders), [each for each in place.state.leases.values() if each.runs]
    try:
        if kind == 0:
            place.deploy(request)
        elif kind == 1:
            place.place(replace(request, max_price_micro_usd_per_gpu_hour=draw.choice((1_000_000, 5_000_000))))
        elif kind == 2 and waiting:
            place.submit(commands.CancelOrder("alice", draw.choice(waiting)))
        elif kind == 3 and running:
            place.submit(commands.ReleaseLease(running[0].tenant_id, running[0].lease_id))
        else:
            place.clock_us += 60_000_000
            place.state.demand.wish(place.clock_us, "bob", request)
    except WalrasError:
        return


def seen_now(place: Upkept) -> Glimpse:
    return glimpse(place.state, place.clock_us, PARAMETERS.window_s)


def rows(bids: Bids) -> list[tuple[object, ...]]:
    """Each bid with its markets, however the sets are numbered."""
    first, markets = bids.sets.first.tolist(), bids.sets.markets.tolist()
    columns = (bids.value_micro_usd_per_gpu_hour, bids.gpu_seconds, bids.tenant, bids.market_set)
    listed = zip(*(column.tolist() for column in columns), strict=True)
    return [
        (value, amount, tenant, tuple(markets[first[at] : first[at + 1]])) for value, amount, tenant, at in listed
    ]


def check(draw: random.Random) -> None:
    place, kept = market(), ViewMaker(PARAMETERS)
    for _ in range(8):
        for _ in range(3):
            step(place, draw)
        seen = seen_now(place)
        view, demand = kept.view(seen, None)
        fresh_view, fresh = ViewMaker(PARAMETERS).view(seen, None)
        assert view.markets == fresh_view.markets and np.array_equal(view.supply.gpus, fresh_view.supply.gpus)
        assert rows(demand.orders) == rows(fresh.orders)
        assert rows(demand.arrivals) == rows(fresh.arrivals)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_law_what_is_kept_changes_nothing(draw: random.Random) -> None:
    """Law 10: a view made with what was found out at earlier epochs is the one that knows nothing."""
    check(draw)


def test_planted_a_lease_that_ends_and_keeps_its_bid_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law above fails where something wanted is known by what it asks for and not by what it is."""
    true, known = market_view._wanted_bid, {}

    def stale(codes: object, wanted: object) -> object:
        return known.setdefault(wanted.request, true(codes, wanted))  # type: ignore[attr-defined, arg-type]

    def fails() -> None:
        for seed in range(20):
            known.clear()
            check(random.Random(seed))

    monkeypatch.setattr(market_view, "_wanted_bid", stale)
    with pytest.raises(AssertionError):
        fails()


def test_an_order_that_no_fleet_holds_is_no_demand() -> None:
    """Law: waiting for what can never be is free, so it moves nothing."""
    place = market()
    place.place(ClusterRequest(4_000, max_price_micro_usd_per_gpu_hour=5_000_000))
    place.place(ClusterRequest(8, max_price_micro_usd_per_gpu_hour=5_000_000))
    _, demand = ViewMaker(PARAMETERS).view(seen_now(place), None)
    assert demand.orders.gpu_seconds.tolist() == [8 * 3_600]
