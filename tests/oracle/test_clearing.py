"""The laws of clearing: the least minimiser of the dual, with its certificate, against trying all prices."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.oracle.clearing import Reason, clear_one, dual_one
from engine.oracle.joint_clearing import JointClearing, clear_markets, dual_micro_usd, regrets_micro_usd
from solvers.market_clearing.exact import UNBOUNDED
from tests.oracle.small_markets import (
    AMOUNTS,
    PRICES,
    World,
    best_allocation,
    bids_of,
    dual_by_hand,
    ints,
    minimisers,
    supply_of,
    worlds,
)

HIGH = 11
"""Above every value and ask of the small worlds."""

MANY = settings(max_examples=100)


def cleared(world: World) -> JointClearing:
    return clear_markets(world.bids, world.supply, world.supply.gpus, world.lower)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    price, amount = ints(pairs).reshape(-1, 2).T
    return price, amount


books = st.lists(st.tuples(PRICES, AMOUNTS), max_size=8).map(columns)


@MANY
@given(books, books)
def test_one_market_clears_at_the_ends_of_the_minimisers(bids: tuple, supply: tuple) -> None:
    """Law: [p−, p+] are exactly the prices where D is least, p* = p−, p+ none if D never rises again."""
    found = clear_one(*bids, *supply)
    duals = [dual_one(price, *bids, *supply) for price in range(HIGH + 1)]
    least = [price for price, dual in enumerate(duals) if dual == min(duals)]
    upper = found.upper_micro_usd_per_gpu_hour
    assert (found.price_micro_usd_per_gpu_hour, HIGH if upper is None else upper) == (least[0], least[-1])
    assert found.dual_micro_usd == min(duals)


@MANY
@given(books, books)
def test_trade_is_served_at_the_clearing_price(bids: tuple, supply: tuple) -> None:
    """Law: what trades is wanted at p* and asked for at most p*, and all that is wanted more is served."""
    found = clear_one(*bids, *supply)
    price, (value, wanted), (ask, offered) = found.price_micro_usd_per_gpu_hour, bids, supply
    assert found.traded_gpu_hours == min(wanted[value >= price].sum(), offered[ask <= price].sum())
    assert wanted[value > price].sum() <= offered[ask <= price].sum()


@MANY
@given(worlds(size=4))
def test_all_markets_clear_at_the_ends_of_the_lattice_of_minimisers(world: World) -> None:
    """Law: p− and p+ are the least and the greatest of all ordered prices where D is least."""
    found, best = cleared(world), minimisers(world, HIGH)
    assert found.price.tolist() == best.min(axis=0).tolist()
    assert np.where(found.upper == UNBOUNDED, HIGH, found.upper).tolist() == best.max(axis=0).tolist()


@MANY
@given(worlds())
def test_dual_at_the_clearing_prices_is_the_best_welfare(world: World) -> None:
    """Law (strong duality): D(p*) is the welfare of the best allocation, so the prices prove it."""
    assert dual_by_hand(world, cleared(world).price) == best_allocation(world)[0]


@MANY
@given(worlds(), st.lists(PRICES, min_size=4, max_size=4), st.data())
def test_welfare_identity(world: World, prices: list[int], data: st.DataObject) -> None:
    """Law: D(p) − W is the buyers' plus the suppliers' regret, at any ordered prices and for any allocation."""
    sales = best_allocation(world)[1]
    sold = [(bid, row, data.draw(st.integers(0, amount))) for bid, row, amount in sales]
    columns = tuple(ints(sold).reshape(-1, 3).T)
    price = np.maximum.accumulate(ints(prices[: len(world.markets)]))
    buyers, suppliers = regrets_micro_usd(price, world.bids, world.supply, world.supply.gpus, columns)
    value, ask = world.bids.value_micro_usd_per_gpu_hour, world.supply.ask_micro_usd_per_gpu_hour
    welfare = float(((value[columns[0]] - ask[columns[1]]) * columns[2]).sum()) / 3_600
    dual = dual_micro_usd(price, world.bids, world.supply, world.supply.gpus)
    assert abs(dual - welfare - buyers - suppliers) <= 1e-9 * max(1.0, dual)
    assert min(buyers, suppliers) >= -1e-9


@MANY
@given(worlds())
def test_nobody_regrets_the_best_allocation_at_the_clearing_prices(world: World) -> None:
    """Law: at p* no winner pays above its bid, no supplier is paid under its ask, and nobody wants to change."""
    found, sales = cleared(world), best_allocation(world)[1]
    for bid, row, _ in sales:
        ask = int(world.supply.ask_micro_usd_per_gpu_hour[row])
        paid = max(int(found.price[world.supply.market[row]]), ask)
        assert ask <= paid <= int(world.bids.value_micro_usd_per_gpu_hour[bid])
    columns = tuple(ints(sales).reshape(-1, 3).T)
    regrets = regrets_micro_usd(found.price, world.bids, world.supply, world.supply.gpus, columns)
    assert max(map(abs, regrets)) <= 1e-9


@MANY
@given(worlds(), st.data())
def test_bracket_is_the_value_of_one_more_and_one_fewer(world: World, data: st.DataObject) -> None:
    """Law: p− <= p* <= p+ are the one-sided derivatives of the relaxation's value per GPU in a market.

    One fewer: a GPU of the market, or of a higher tier, goes to someone who pays 1,000.
    """
    market = data.draw(st.integers(0, len(world.markets) - 1))
    found, scale = cleared(world), 1_000
    here = best_allocation(world, scale=scale)[0]
    more = best_allocation(world, extra=[(market, 0, 1)], scale=scale)[0]
    assert more - here == found.price[market]
    fewer = best_allocation(world, forced=[(1, world.closed([market]))], scale=scale)[0]
    if found.upper[market] == UNBOUNDED:
        assert fewer == here  # there is nothing that could be taken away
    else:
        assert found.price[market] <= here - (fewer - 1_000) == found.upper[market]


@MANY
@given(worlds())
def test_clearing_prices_are_in_order_along_dominance(world: World) -> None:
    """Law: a better product never costs less, whatever the bids may use; nor is its bracket lower."""
    found, lower = cleared(world), world.lower
    here = np.flatnonzero(lower >= 0)
    assert (found.price[here] >= found.price[lower[here]]).all()
    upper = np.where(found.upper == UNBOUNDED, HIGH, found.upper)
    assert (upper[here] >= upper[lower[here]]).all()


@MANY
@given(worlds())
def test_reasons_say_what_the_price_rests_on(world: World) -> None:
    """Law: every reason is true of the market it is given for."""
    found = cleared(world)
    for market, (price, reason) in enumerate(zip(found.price.tolist(), found.reasons, strict=True)):
        asks = world.supply.ask_micro_usd_per_gpu_hour[(world.supply.market == market) & (world.supply.gpus > 0)]
        usable = [market in options for options in world.options]
        values = world.bids.value_micro_usd_per_gpu_hour[usable]
        below = world.lower[market]
        assert (reason is Reason.NO_TRADE) == (price == 0)
        assert reason is not Reason.ASK or price in asks
        assert reason is not Reason.DEMAND or price in values
        assert reason is not Reason.INHERITED or (below >= 0 and price == found.price[below])


@MANY
@given(worlds(markets=1))
def test_one_market_alone_clears_as_the_joint_one(world: World) -> None:
    """Law: with one market and bids that all may use it, both ways to clear agree."""
    usable = np.array([bool(options) for options in world.options], dtype=bool)
    bids, supply = world.bids, world.supply
    alone = clear_one(
        bids.value_micro_usd_per_gpu_hour[usable],
        bids.gpu_seconds[usable],
        supply.ask_micro_usd_per_gpu_hour,
        supply.gpus,
    )
    joint, upper = cleared(world), alone.upper_micro_usd_per_gpu_hour
    assert joint.price == alone.price_micro_usd_per_gpu_hour
    assert joint.upper == (UNBOUNDED if upper is None else upper)


def test_a_price_off_by_one_is_found_out() -> None:
    """Planted bug: a price one micro-dollar off no longer proves the welfare."""
    world = World((), (), bids_of([(7, 10, 0), (5, 10, 1)], [(0,), (0,)]), supply_of([(0, 1, 12)]))
    bids, supply, amount = world.bids, world.supply, world.supply.gpus
    price = clear_markets(bids, supply, amount, ints([-1])).price
    assert price.tolist() == [5]
    best = dual_micro_usd(price, bids, supply, amount)
    assert all(dual_micro_usd(price + off, bids, supply, amount) > best for off in (-1, 1))


def test_a_market_without_trade_inherits() -> None:
    """A SECURE market that nobody asks for and whose supply is too dear costs as much as VERIFIED, and says so."""
    bids = bids_of([(7, 10, 0), (5, 10, 1)], [(0,), (0,)])
    found = clear_markets(bids, supply_of([(0, 1, 12), (1, 9, 5)]), ints([12, 5]), ints([-1, 0]))
    assert found.price.tolist() == [5, 5]
    assert found.reasons == (Reason.DEMAND, Reason.INHERITED)
