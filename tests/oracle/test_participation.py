"""The laws of who may set a price, and of what is shown of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.oracle.joint_clearing import clear_markets
from engine.oracle.markets import Supply
from engine.oracle.parameters import OracleParameters
from engine.oracle.participation import NOBODY, participation, without_self_dealing
from engine.oracle.steps import Step, demand_steps, supply_steps, volatility_per_sqrt_hour
from tests.oracle.small_markets import World, bids_of, ints, supply_of, worlds

PARAMETERS = OracleParameters()


@st.composite
def owned_worlds(draw: st.DrawFn) -> tuple[World, Supply]:
    world = draw(worlds())
    seed = draw(st.integers(0, 10**6))
    owner = np.random.default_rng(seed).integers(NOBODY, 4, world.supply.market.size)
    supply = world.supply
    return world, Supply(supply.market, supply.ask_micro_usd_per_gpu_hour, supply.gpus, owner)


@settings(max_examples=60)
@given(owned_worlds())
def test_self_dealing_is_left_out(given_world: tuple[World, Supply]) -> None:
    """Law: a bid loses exactly the markets that its tenant supplies."""
    world, supply = given_world
    bids = without_self_dealing(world.bids, supply, len(world.markets))
    owned = set(zip(supply.owner.tolist(), supply.market.tolist(), strict=True))
    for bid, (options, tenant) in enumerate(zip(world.options, world.bids.tenant.tolist(), strict=True)):
        pairs, _ = bids.sets.pairs_of(bids.market_set[[bid]])
        assert bids.sets.markets[pairs].tolist() == [each for each in options if (tenant, each) not in owned]


@settings(max_examples=60)
@given(owned_worlds())
def test_participation_counts_tenants_and_shares(given_world: tuple[World, Supply]) -> None:
    """Law: tenants and largest shares are those of counting bid by bid and row by row."""
    world, supply = given_world
    found = participation(world.bids, supply, len(world.markets))
    for market in range(len(world.markets)):
        asked: dict[int, int] = {}
        for tenant, amount, options in zip(
            world.bids.tenant.tolist(), world.bids.gpu_seconds.tolist(), world.options, strict=True
        ):
            if market in options and amount:
                asked[tenant] = asked.get(tenant, 0) + amount
        here = supply.market == market
        owned = [int(supply.gpus[here & (supply.owner == owner)].sum()) for owner in range(4)]
        assert found.tenants[market] == len(asked)
        assert found.largest_tenant_share[market] == max(asked.values(), default=0) / max(sum(asked.values()), 1)
        assert found.largest_owner_share[market] == max(owned) / max(int(supply.gpus[here].sum()), 1)


def test_a_supplier_cannot_bid_up_its_own_market() -> None:
    """A wash bid of 9 against honest demand at 4: with it the price is 9, without it 4."""
    supply = supply_of([(0, 1, 10)], owners=[7])
    honest, wash = (4, 20, 1), (9, 20, 7)
    bids = bids_of([honest, wash], [(0,), (0,)])
    assert clear_markets(bids, supply, supply.gpus, ints([-1])).price.tolist() == [9]
    clean = without_self_dealing(bids, supply, 1)
    assert clear_markets(clean, supply, supply.gpus, ints([-1])).price.tolist() == [4]


@given(worlds())
def test_every_demand_step_rests_on_enough_tenants(world: World) -> None:
    """Law: a step is at no price above that of its bids, amounts never exceed what is bid, prices fall."""
    parameters = OracleParameters(shown_step_micro_usd=2)
    for market in range(len(world.markets)):
        steps = demand_steps(market, world.bids, parameters)
        usable = np.array([market in options for options in world.options], dtype=bool)
        value, amount = world.bids.value_micro_usd_per_gpu_hour, world.bids.gpu_seconds
        prices = [step.price_micro_usd_per_gpu_hour for step in steps]
        assert prices == sorted(prices, reverse=True)
        assert len(steps) * parameters.min_tenants_shown <= int((usable & (amount > 0)).sum())
        shown = 0
        for step in steps:
            shown += step.gpu_seconds
            assert shown <= amount[usable & (value >= step.price_micro_usd_per_gpu_hour)].sum()


def test_two_tenants_show_nothing() -> None:
    """Fewer than three tenants: no step, however many bids."""
    bids = bids_of([(5, 1, 0), (6, 1, 1), (7, 1, 0)], [(0,), (0,), (0,)])
    assert demand_steps(0, bids, PARAMETERS) == []
    assert supply_steps(0, supply_of([(0, 3, 5), (0, 2, 4), (0, 3, 1)]), ints([5, 4, 1])) == [
        Step(2, 4),
        Step(3, 6),
    ]


def test_volatility_is_per_square_root_of_an_hour() -> None:
    """1 % up and down every five minutes is √12 % per √hour."""
    posted = [1_000_000, 1_010_000] * 50
    assert abs(volatility_per_sqrt_hour(posted, PARAMETERS) - 0.00995 * 12**0.5) < 1e-5
    assert volatility_per_sqrt_hour([5], PARAMETERS) == 0.0
