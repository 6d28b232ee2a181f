"""Playing one policy through a scenario, and the clearing prices that all policies are measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backtest.policies import FixedPrice, Policy, Seen
from engine.backtest.scenario import HOUR_S, MICROSECONDS, PARAMETERS, Int, Scenario
from engine.oracle.clearing import clear_one
from solvers.backtest.event_loop import SERVED, run_epochs
from solvers.kernel import Arrays


@dataclass(frozen=True, slots=True)
class Play:
    """What happened. `posted` and `used_gpus` (epochs,), micro-USD per GPU-hour and GPUs at the end of each;
    `outcome` (gangs,) int8, codes of `solvers.backtest.event_loop`; `run_s` (gangs,) float64, 0 if not served.
    """

    posted: Int
    used_gpus: Int
    outcome: NDArray[np.int8]
    run_s: NDArray[np.float64]


def clearing_path(scenario: Scenario) -> Int:
    """p* where each epoch starts, from the demand of the window before it; (epochs,) micro-USD per GPU-hour.

    Every arrival is demand, served or not, so the path is the same for all policies. Before anything can have
    arrived it is the start price.
    """
    value, demand = scenario.value_micro_usd_per_gpu_hour, scenario.gpu_seconds
    ask = np.array([scenario.ask_micro_usd_per_gpu_hour])
    price = np.empty(scenario.epochs, dtype=np.int64)
    price[0] = scenario.start_price_micro_usd_per_gpu_hour
    for epoch in range(1, scenario.epochs):
        window = slice(scenario.window_first[epoch], scenario.edge[epoch])
        supply = scenario.window_supply_gpu_seconds[epoch : epoch + 1]
        price[epoch] = clear_one(value[window], demand[window], ask, supply).price_micro_usd_per_gpu_hour
    return price


def play(scenario: Scenario, policy: Policy, clearing: Int) -> Play:
    """Let a policy post a price for every epoch; the first is the scenario's start price, moved once."""
    posted = np.empty(scenario.epochs, dtype=np.int64)
    state = _empty_market(scenario)
    used_gpus, price = state[4], scenario.start_price_micro_usd_per_gpu_hour
    floor = max(scenario.ask_micro_usd_per_gpu_hour, PARAMETERS.reserve_micro_usd_per_gpu_hour)
    for epoch in range(scenario.epochs):
        used = int(used_gpus[epoch - 1]) if epoch else 0
        seen = Seen(price, int(clearing[epoch]), used, int(scenario.supply_gpus[epoch]), floor)
        price = posted[epoch] = policy.next_price(seen)
        _run(scenario, price, (epoch, epoch + 1), state)
    return _played(scenario, posted, state)


def play_fixed(scenario: Scenario, price_micro_usd_per_gpu_hour: int) -> Play:
    """What `play` does for a fixed price, without coming back between epochs."""
    state = _empty_market(scenario)
    _run(scenario, price_micro_usd_per_gpu_hour, (0, scenario.epochs), state)
    return _played(scenario, np.full(scenario.epochs, price_micro_usd_per_gpu_hour, dtype=np.int64), state)


def best_fixed_price(scenario: Scenario) -> FixedPrice:
    """The fixed price of the greatest welfare *in hindsight*, which nobody can know beforehand.

    The best of prices 5 % apart from 2/3 to 2 times the start price, then of those 1 % apart around it.
    """
    start = scenario.start_price_micro_usd_per_gpu_hour
    coarse = _best_of(scenario, [round(start * 1.05**step) for step in range(-8, 15)])
    return FixedPrice(_best_of(scenario, [round(coarse * 1.01**step) for step in range(-4, 5)]))


def _best_of(scenario: Scenario, prices: list[int]) -> int:
    """Ties: the first."""
    return max(prices, key=lambda price: welfare_micro_usd(scenario, play_fixed(scenario, price)))


def welfare_micro_usd(scenario: Scenario, played: Play) -> float:
    """Σ (value − ask) · GPUs · hours of what ran. Leases that outlast the scenario count in full."""
    worth = scenario.value_micro_usd_per_gpu_hour - scenario.ask_micro_usd_per_gpu_hour
    return float(np.dot(worth * scenario.gpus / HOUR_S, played.run_s))


def _empty_market(scenario: Scenario) -> Arrays:
    count = scenario.arrival_us.size
    until_us, heap_us, heap_gang = (np.zeros(count, dtype=np.int64) for _ in range(3))
    used_gpus, counts = np.zeros(scenario.epochs, dtype=np.int64), np.zeros(2, dtype=np.int64)
    return np.zeros(count, dtype=np.int8), until_us, heap_us, heap_gang, used_gpus, counts


def _run(scenario: Scenario, price: int, epochs: tuple[int, int], state: Arrays) -> None:
    arrivals = (
        scenario.arrival_us,
        scenario.duration_us,
        scenario.gpus,
        scenario.value_micro_usd_per_gpu_hour,
    )
    run_epochs(arrivals, scenario.edge, scenario.supply_gpus, PARAMETERS.epoch_us, price, epochs, state)


def _played(scenario: Scenario, posted: Int, state: Arrays) -> Play:
    outcome, until_us, _, _, used_gpus, _ = state
    run_s = np.where(outcome == SERVED, (until_us - scenario.arrival_us) / MICROSECONDS, 0.0)
    return Play(posted, used_gpus, outcome, run_s)
