"""The laws of an epoch: replay, bounds, order along dominance, and what an unhealthy feed may do."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput
from engine.domain.tiers import SecurityTier
from engine.oracle.epoch import MarketView, next_epoch
from engine.oracle.health import Alarm
from engine.oracle.markets import Bids, Market, MarketSets, Supply, next_lower
from engine.oracle.parameters import OracleParameters
from engine.oracle.references import Fault, ReferenceQuote
from engine.oracle.snapshot import Limit, PriceSnapshot, snapshot_of
from tests.oracle.small_markets import bids_of, ints

PARAMETERS = OracleParameters()
START, EPOCH = 10**15, PARAMETERS.epoch_us
MARKETS = tuple(
    sorted(Market(model, region, tier) for model in ("A", "B") for region in ("x", "y") for tier in SecurityTier)
)
NO_BIDS = bids_of([], [])
SEEDS = st.integers(0, 10**6)
BAD_PRICES = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e30)


def view_at(now_us: int, seed: int, markets: tuple[Market, ...] = MARKETS) -> MarketView:
    """One to three offers a market, at asks around half of the reference."""
    random = np.random.default_rng(seed)
    market = np.sort(random.integers(0, len(markets), 3 * len(markets)))
    ask, gpus = random.integers(300_000, 2_000_000, market.size), random.integers(0, 64, market.size)
    supply = Supply(market, ask, gpus, random.integers(-1, 50, market.size))
    return MarketView(markets, supply, random.integers(1, 3_000_000, len(markets)), now_us)


def demand_at(seed: int, count: int = 20, markets: tuple[Market, ...] = MARKETS) -> Bids:
    random = np.random.default_rng(seed)
    options = [tuple(np.flatnonzero(random.random(len(markets)) < 0.2).tolist()) for _ in range(count)]
    value, amount = random.integers(200_000, 4_000_000, count), random.integers(0, 10**6, count)
    return bids_of(np.stack((value, amount, random.integers(0, 60, count)), axis=1), options)


def references_at(now_us: int, price: float = 2_000_000, models: str = "AB") -> list[ReferenceQuote]:
    return [
        ReferenceQuote(source, model, price * factor, now_us)
        for model in models
        for source, factor in (("one", 0.9), ("two", 1.0), ("three", 1.2))
    ]


def step(
    previous: PriceSnapshot | None, now_us: int, seed: int, references: list[ReferenceQuote] | None = None
) -> PriceSnapshot:
    quotes = references_at(now_us) if references is None else references
    view = view_at(now_us, seed)
    return next_epoch(previous, view, demand_at(seed), demand_at(seed + 1), quotes, now_us, PARAMETERS)


@cache
def opened() -> PriceSnapshot:
    return step(None, START, 0)


def check_order_and_bounds(snapshot: PriceSnapshot) -> None:
    rows = snapshot.markets
    for row in rows:
        assert 0 < row.floor_micro_usd_per_gpu_hour <= row.posted_micro_usd_per_gpu_hour
        assert row.posted_micro_usd_per_gpu_hour <= row.cap_micro_usd_per_gpu_hour
        upper = row.upper_micro_usd_per_gpu_hour
        assert upper is None or row.clearing_micro_usd_per_gpu_hour <= upper
    columns = ("clearing", "posted", "floor", "cap", "long_run")
    for here, below in enumerate(next_lower(tuple(row.market for row in rows)).tolist()):
        for column in columns if below >= 0 else ():
            name = f"{column}_micro_usd_per_gpu_hour"
            assert getattr(rows[below], name) <= getattr(rows[here], name), column


@settings(max_examples=25)
@given(st.lists(st.tuples(SEEDS, st.floats(10_000, 10**8), st.sampled_from(("AB", "A", ""))), max_size=6))
def test_prices_keep_their_bounds_and_their_order(epochs: list[tuple[int, float, str]]) -> None:
    """Law: floor <= posted <= cap, p− <= p* <= p+, dominance before and after smoothing, whatever happens."""
    snapshot = opened()
    for index, (seed, price, models) in enumerate(epochs, start=1):
        now_us = START + index * EPOCH
        after = step(snapshot, now_us, seed, references_at(now_us, price, models))
        check_order_and_bounds(after)
        for old, new in zip(snapshot.markets, after.markets, strict=True):
            was, now = old.posted_micro_usd_per_gpu_hour, new.posted_micro_usd_per_gpu_hour
            assert abs(math.log(now / was)) <= math.log(1.125) / 12 + 1e-12
        snapshot = after


@settings(max_examples=20)
@given(SEEDS)
def test_replay_is_bit_identical(seed: int) -> None:
    """Law: the same arguments give the same snapshot and id; another content has another id."""
    now_us = START + EPOCH
    once, again = step(opened(), now_us, seed), step(opened(), now_us, seed)
    assert once == again
    assert snapshot_of(once.epoch, once.taken_at_us, once.markets) == once
    changed = replace(once.markets[0], posted_micro_usd_per_gpu_hour=1)
    assert snapshot_of(once.epoch, once.taken_at_us, (changed, *once.markets[1:])).price_snapshot_id != (
        once.price_snapshot_id
    )


BAD_REFERENCES: dict[str, tuple[list[ReferenceQuote], Fault]] = {
    "missing": ([], Fault.BELOW_QUORUM),
    "stale": (references_at(START - PARAMETERS.reference_max_age_us), Fault.STALE),
    "zero": (references_at(START, 0.0), Fault.NOT_POSITIVE),
    "negative": (references_at(START, -1.0), Fault.NOT_POSITIVE),
    "infinite": (references_at(START, math.inf), Fault.INFINITE),
    "not a number": (references_at(START, math.nan), Fault.NOT_A_NUMBER),
    "contradictory": (
        [
            ReferenceQuote(source, model, price, START)
            for model in "AB"
            for source, price in (("one", 1e6), ("two", 4e6), ("three", 16e6))
        ],
        Fault.CONTRADICTORY,
    ),
    "self-contradictory": (
        [*references_at(START), *references_at(START, 2_000_001)],
        Fault.SELF_CONTRADICTORY,
    ),
}


@pytest.mark.parametrize("kind", BAD_REFERENCES)
def test_bad_references_freeze_the_price_and_say_why(kind: str) -> None:
    """Law: never a zero, never a crash: posted price and bounds stay, unhealthy, with the reason."""
    references, fault = BAD_REFERENCES[kind]
    after = step(opened(), START + EPOCH, 5, references)
    for old, new in zip(opened().markets, after.markets, strict=True):
        assert new.posted_micro_usd_per_gpu_hour == old.posted_micro_usd_per_gpu_hour > 0
        assert new.floor_micro_usd_per_gpu_hour == old.floor_micro_usd_per_gpu_hour
        assert (new.limit, new.health.is_healthy) == (Limit.FROZEN, False)
        assert fault in new.health.failure_reasons
    check_order_and_bounds(step(None, START, 5, references))


@settings(max_examples=25)
@given(st.lists(st.sampled_from(BAD_PRICES), max_size=6), SEEDS)
def test_bad_prices_beside_three_good_ones_change_nothing(prices: list[float], seed: int) -> None:
    """Law: with a quorum left, what is rejected moves no price."""
    now_us = START + EPOCH
    bad = [ReferenceQuote(f"bad {index}", "A", price, now_us) for index, price in enumerate(prices)]
    clean, dirty = step(opened(), now_us, seed), step(opened(), now_us, seed, [*bad, *references_at(now_us)])
    assert clean == dirty


def test_a_stale_view_of_supply_freezes_all() -> None:
    """Law: prices do not move on what is no longer so; a view from the future is no better."""
    now_us = START + EPOCH
    for as_of_us in (now_us - PARAMETERS.supply_max_age_us - 1, now_us + 1):
        view = view_at(as_of_us, 3)
        after = next_epoch(opened(), view, NO_BIDS, NO_BIDS, references_at(now_us), now_us, PARAMETERS)
        assert {row.health.failure_reasons for row in after.markets} == {(Fault.SUPPLY_STALE,)}
        assert [row.posted_micro_usd_per_gpu_hour for row in after.markets] == [
            row.posted_micro_usd_per_gpu_hour for row in opened().markets
        ]


def test_an_epoch_is_published_once() -> None:
    """Within an epoch, and when the clock steps back, the snapshot stays the same object."""
    last = START // EPOCH * EPOCH + EPOCH - 1
    assert step(opened(), last, 8) is opened()
    assert step(opened(), START - EPOCH, 8) is opened()


def test_without_demand_prices_fall_to_their_floor() -> None:
    """Nobody bids: the clearing price is zero, the posted one ends at the floor, never below."""
    snapshot = opened()
    for index in range(1, 150):
        now_us = START + index * EPOCH
        view = view_at(now_us, 1)
        snapshot = next_epoch(snapshot, view, NO_BIDS, NO_BIDS, references_at(now_us), now_us, PARAMETERS)
    assert {row.limit for row in snapshot.markets} == {Limit.FLOOR}
    assert snapshot.markets[0].posted_micro_usd_per_gpu_hour == 555_000  # 0.3 × 2 USD × 0.925
    assert {row.shown_bracket(PARAMETERS) for row in snapshot.markets} == {None}


def test_markets_that_join_later_stand_in_order() -> None:
    """A tier that appears beside known ones opens between their prices; their own prices are not touched by it."""
    few = tuple(market for market in MARKETS if market.tier in (SecurityTier.COMMUNITY, SecurityTier.SECURE))
    now_us = START + EPOCH
    first = next_epoch(None, view_at(START, 1, few), NO_BIDS, NO_BIDS, references_at(START), START, PARAMETERS)
    dear = references_at(now_us, 9_000_000)
    joined = next_epoch(first, view_at(now_us, 1), NO_BIDS, NO_BIDS, dear, now_us, PARAMETERS)
    check_order_and_bounds(joined)
    alone = next_epoch(first, view_at(now_us, 1, few), NO_BIDS, NO_BIDS, dear, now_us, PARAMETERS)
    posted = {row.market: row.posted_micro_usd_per_gpu_hour for row in joined.markets}
    assert all(posted[row.market] == row.posted_micro_usd_per_gpu_hour for row in alone.markets)


def test_one_large_tenant_and_one_large_owner_raise_alarms() -> None:
    """Alarms are raised and freeze nothing."""
    market = (Market("A", "x", SecurityTier.SECURE),)
    view = MarketView(market, Supply(ints([0]), ints([1]), ints([1]), ints([9])), ints([1]), START)
    bids = bids_of([(9_000_000, 10**6, 1), (8_000_000, 10, 2), (7_000_000, 10, 3)], [(0,)] * 3)
    row = next_epoch(None, view, bids, NO_BIDS, references_at(START), START, PARAMETERS).markets[0]
    assert row.health.is_healthy
    assert row.health.alarms == (Alarm.PRICE_DEVIATES, Alarm.DEMAND_CONCENTRATED, Alarm.SUPPLY_CONCENTRATED)
    assert row.shown_bracket(PARAMETERS) == (9_000_000, 9_000_000)


def test_a_view_is_checked_once() -> None:
    """Bad input lists every violation and changes nothing."""
    none = ints([])
    with pytest.raises(InvalidInput) as caught:
        MarketView(MARKETS[::-1], Supply(ints([99]), ints([1]), ints([1]), ints([-1])), none, START)
    named = [each.field for each in caught.value.violations]
    assert named == ["markets", "opening_micro_usd_per_gpu_hour", "supply"]
    with pytest.raises(InvalidInput, match="prices"):
        Supply(ints([0, 0]), ints([-1, 5]), ints([1, 1]), ints([-1, -1]))
    with pytest.raises(InvalidInput, match="ascend"):
        MarketSets(ints([0, 2]), ints([3, 3]))
    with pytest.raises(InvalidInput, match="not listed"):
        Bids(ints([1]), ints([1]), ints([0]), ints([1]), MarketSets(ints([0, 1]), ints([0])))
    stranger = bids_of([(5, 5, 5)], [(99,)])
    with pytest.raises(InvalidInput, match="not listed"):
        next_epoch(None, view_at(START, 1), stranger, NO_BIDS, [], START, PARAMETERS)


def test_an_empty_network_has_an_empty_snapshot() -> None:
    none = ints([])
    view = MarketView((), Supply(none, none, none, none), none, START)
    empty = Bids(none, none, none, none, MarketSets(ints([0]), none))
    assert next_epoch(None, view, empty, empty, [], START, PARAMETERS).markets == ()
