"""The laws of interruptible sales, against trying all sets of gangs."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.tiers import SecurityTier
from engine.oracle import interruptible
from engine.oracle.clearing import Reason
from engine.oracle.health import Health
from engine.oracle.interruptible import InterruptibleSale, Outcome, interruptible_price, sell_interruptible
from engine.oracle.markets import Market
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import Limit, MarketPrice
from tests.oracle.small_markets import ints

Rows = list[tuple[int, int]]
GANGS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), max_size=6)
OFFERS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=4)
LIMIT = st.integers(0, 5)
MANY = settings(max_examples=100)


def sell(gangs: Rows, offers: Rows, scarcity: int = 0, floor: int = 0) -> InterruptibleSale:
    gpus, bid = ints(gangs).reshape(-1, 2).T
    ask, offered = ints(offers).reshape(-1, 2).T
    return sell_interruptible(gpus, bid, ask, offered, scarcity, floor)


def best_by_hand(gangs: Rows, offers: Rows, lowest: int) -> int:
    """Welfare of the best set of whole gangs that all bid at least the price which that very set makes."""
    asks = sorted(ask for ask, gpus in offers for _ in range(gpus))
    best = 0
    for size in range(1, len(gangs) + 1):
        for chosen in combinations(gangs, size):
            used = asks[: sum(gpus for gpus, _ in chosen)]
            fits = len(used) == sum(gpus for gpus, _ in chosen)
            if fits and min(bid for _, bid in chosen) >= max(lowest, used[-1]):
                best = max(best, sum(gpus * bid for gpus, bid in chosen) - sum(used))
    return best


@MANY
@given(GANGS, OFFERS, LIMIT, LIMIT)
def test_winners_are_the_best_set(gangs: Rows, offers: Rows, scarcity: int, floor: int) -> None:
    """Law: no other set of whole gangs has more welfare."""
    found = sell(gangs, offers, scarcity, floor)
    assert found.is_exact
    assert found.welfare_micro_usd_per_hour == best_by_hand(gangs, offers, max(scarcity, floor))


def check_sale(found: InterruptibleSale, gangs: Rows, offers: Rows, lowest: int) -> None:
    price = found.price_micro_usd_per_gpu_hour
    won = [gang for gang, outcome in zip(gangs, found.outcomes, strict=True) if outcome is Outcome.WON]
    used = [ask for (ask, _), gpus in zip(offers, found.gpus_used, strict=True) if gpus]
    assert all(bid >= price for _, bid in won)
    assert all(ask <= price for ask in used)
    assert price == max([lowest, *used])
    assert sum(gpus for gpus, _ in won) == sum(found.gpus_used)
    assert all(gpus <= most for gpus, (_, most) in zip(found.gpus_used, offers, strict=True))
    paid = sum(ask * gpus for (ask, _), gpus in zip(offers, found.gpus_used, strict=True))
    assert found.welfare_micro_usd_per_hour == sum(gpus * bid for gpus, bid in won) - paid


@MANY
@given(GANGS, OFFERS, LIMIT, LIMIT)
def test_no_winner_pays_above_its_bid_and_no_supplier_sells_under_its_ask(
    gangs: Rows, offers: Rows, scarcity: int, floor: int
) -> None:
    """Law: highest ask used <= price <= lowest winning bid; the price is max(p−, highest ask used, floor)."""
    check_sale(sell(gangs, offers, scarcity, floor), gangs, offers, max(scarcity, floor))


@MANY
@given(GANGS, OFFERS, LIMIT)
def test_beyond_the_exact_limit_the_same_laws_hold_and_the_bound_is_proven(
    gangs: Rows, offers: Rows, floor: int
) -> None:
    """Law: welfare <= the best <= the bound, and nobody pays or gets what he did not agree to."""
    with patch.object(interruptible, "EXACT_CELLS", 0):
        found = sell(gangs, offers, 0, floor)
    check_sale(found, gangs, offers, floor)
    best = best_by_hand(gangs, offers, floor)
    assert found.welfare_micro_usd_per_hour <= best <= found.bound_micro_usd_per_hour


@MANY
@given(GANGS, OFFERS, LIMIT)
def test_whoever_is_left_out_is_told_why(gangs: Rows, offers: Rows, floor: int) -> None:
    """Law: BELOW_PRICE bids less than the price; a higher bid left out beside a lower winner is INDIVISIBLE."""
    found = sell(gangs, offers, 0, floor)
    winners = [bid for (_, bid), outcome in zip(gangs, found.outcomes, strict=True) if outcome is Outcome.WON]
    for (_, bid), outcome in zip(gangs, found.outcomes, strict=True):
        assert (outcome is Outcome.BELOW_PRICE) == (bid < found.price_micro_usd_per_gpu_hour)
        assert outcome is not Outcome.OUTBID or bid <= min(winners, default=bid)
        if outcome is not Outcome.WON and winners and bid > min(winners):
            assert outcome is Outcome.INDIVISIBLE


def test_a_higher_bid_that_does_not_fit() -> None:
    """A gang of 5 at 9 gives way to two of 4 at 8: 64 is more than 45, and its bid is above theirs."""
    found = sell([(5, 9), (4, 8), (4, 8)], [(1, 8)])
    assert found.outcomes == (Outcome.INDIVISIBLE, Outcome.WON, Outcome.WON)
    assert (found.price_micro_usd_per_gpu_hour, found.welfare_micro_usd_per_hour) == (1, 56)


def test_a_price_above_a_winning_bid_is_found_out() -> None:
    """Planted bug: the price is raised above what a winner bid."""
    gangs, offers = [(2, 5), (2, 7)], [(3, 4)]
    found = sell(gangs, offers)
    check_sale(found, gangs, offers, 0)
    with pytest.raises(AssertionError):
        check_sale(replace(found, price_micro_usd_per_gpu_hour=6), gangs, offers, 6)


def test_a_large_sale_says_that_it_is_not_exact() -> None:
    """3,000 gangs on 20,000 GPUs are beyond the limit; the bound shows how little that costs."""
    random = np.random.default_rng(0)
    gpus, bid = random.choice([1, 8, 64], 3_000), random.integers(10**5, 3 * 10**6, 3_000)
    found = sell_interruptible(gpus, bid, ints([200_000, 900_000]), ints([12_000, 8_000]), 0, 0)
    assert not found.is_exact
    assert found.welfare_micro_usd_per_hour >= 0.999 * found.bound_micro_usd_per_hour


MARKET_PRICES = st.integers(20_000, 4_000_000)


@MANY
@given(MARKET_PRICES, MARKET_PRICES, st.integers(0, 6))
def test_the_price_of_a_market_reveals_no_bid(clearing: int, posted: int, tenants: int) -> None:
    """Law: max(p−, floor), p− on the grid; below three tenants nothing of p− but whether it is above the floor."""
    parameters, floor = OracleParameters(), 500_000
    posted = max(posted, floor)
    health = Health(None, (), None, None, True, (), ())
    market = Market("H100", "us-east", SecurityTier.SECURE)
    price = MarketPrice(
        market, clearing, None, posted, floor, 4_000_000, posted, Reason.DEMAND, Limit.NONE, tenants, health
    )
    found = interruptible_price(price, parameters)
    assert floor <= found
    if tenants >= parameters.min_tenants_shown:
        assert found == max(floor, clearing // parameters.shown_step_micro_usd * parameters.shown_step_micro_usd)
    else:
        assert found == (posted if clearing > floor else floor)
