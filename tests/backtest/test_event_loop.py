"""The market in time, against a slow twin that looks at all leases at every instant."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.policies import Seen
from engine.backtest.scenario import MICROSECONDS, PARAMETERS, Scenario
from engine.backtest.simulation import Play, play, play_fixed
from solvers.backtest.event_loop import PRICED_OUT, SERVED, STOCK_OUT
from tests.backtest.markets import market, markets

PRICES = st.lists(st.integers(1, 3_000_000), min_size=1, max_size=24)


class Scripted:
    """Posts given prices, one after the other, again and again."""

    def __init__(self, prices: list[int]) -> None:
        self.prices, self.epoch = prices, -1

    def next_price(self, seen: Seen) -> int:
        self.epoch += 1
        return self.prices[self.epoch % len(self.prices)]


def played(scenario: Scenario, prices: list[int]) -> Play:
    return play(scenario, Scripted(prices), np.zeros(scenario.epochs, dtype=np.int64))


def twin(scenario: Scenario, posted: list[int]) -> tuple[list[int], list[float]]:
    """(outcome, seconds run) of every gang: no heap, no counters, only the list of who runs."""
    outcome, end_us = [0] * scenario.gpus.size, [0] * scenario.gpus.size

    def in_use(now_us: int, started: int) -> int:
        return sum(int(scenario.gpus[i]) for i in range(started) if outcome[i] == SERVED and end_us[i] > now_us)

    for epoch in range(scenario.epochs):
        first, last, now_us = *scenario.edge[epoch : epoch + 2], epoch * PARAMETERS.epoch_us
        for gang in reversed(range(first)):
            if in_use(now_us, first) > scenario.supply_gpus[epoch] and outcome[gang] == SERVED:
                end_us[gang] = min(end_us[gang], now_us)
        for gang in range(first, last):
            free = scenario.supply_gpus[epoch] - in_use(int(scenario.arrival_us[gang]), gang)
            if scenario.value_micro_usd_per_gpu_hour[gang] < posted[epoch]:
                outcome[gang] = PRICED_OUT
            elif scenario.gpus[gang] > free:
                outcome[gang] = STOCK_OUT
            else:
                outcome[gang] = SERVED
                end_us[gang] = int(scenario.arrival_us[gang] + scenario.duration_us[gang])
    ran = [
        (end - int(start)) / MICROSECONDS if end else 0.0
        for end, start in zip(end_us, scenario.arrival_us, strict=True)
    ]
    return outcome, ran


@given(markets(), PRICES)
def test_agrees_with_the_twin(scenario: Scenario, prices: list[int]) -> None:
    """Law: every gang meets the fate that the rules give it, instant by instant."""
    found = played(scenario, prices)
    outcome, ran = twin(scenario, found.posted.tolist())
    assert found.outcome.tolist() == outcome
    assert [run if code == SERVED else 0.0 for run, code in zip(ran, outcome, strict=True)] == found.run_s.tolist()


@given(markets(), PRICES)
def test_gpus_are_never_oversubscribed(scenario: Scenario, prices: list[int]) -> None:
    """Law: at every start of a lease, the leases that run fit the supply of that epoch."""
    found = played(scenario, prices)
    end_us = scenario.arrival_us + np.rint(found.run_s * MICROSECONDS).astype(np.int64)
    for gang in np.flatnonzero(found.outcome == SERVED):
        now_us = scenario.arrival_us[gang]
        runs = (scenario.arrival_us <= now_us) & (end_us > now_us) & (found.outcome == SERVED)
        runs &= np.arange(runs.size) <= gang
        assert scenario.gpus[runs].sum() <= scenario.supply_gpus[now_us // PARAMETERS.epoch_us]
    assert np.all(found.used_gpus <= scenario.supply_gpus)


@given(markets(), st.integers(1, 3_000_000))
def test_a_fixed_price_in_one_go_is_the_same_as_epoch_by_epoch(scenario: Scenario, price: int) -> None:
    """Law: where the loop over epochs is, changes nothing."""
    at_once, stepwise = play_fixed(scenario, price), played(scenario, [price])
    for one, other in zip(
        (at_once.outcome, at_once.run_s, at_once.used_gpus, at_once.posted),
        (stepwise.outcome, stepwise.run_s, stepwise.used_gpus, stepwise.posted),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_lost_supply_stops_the_latest_gang() -> None:
    """Law: the latest started goes first, and only as many as must."""
    rows = [(0, 9_000, 4, 2_000_000), (1, 9_000, 4, 2_000_000), (2, 9_000, 2, 2_000_000)]
    found = played(market(rows, [10, 5, 5]), [1_000_000])
    assert found.outcome.tolist() == [SERVED] * 3
    assert found.run_s.tolist() == [9_000.0, 299.0, 298.0]
