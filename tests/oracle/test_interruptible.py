"""The law of what interruptible GPUs cost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.tiers import SecurityTier
from engine.oracle.clearing import Reason
from engine.oracle.health import Health
from engine.oracle.interruptible import interruptible_price
from engine.oracle.markets import Market
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import Limit, MarketPrice

MANY = settings(max_examples=100)
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
