"""Metrics on price paths written by hand, and targets that a bad policy misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.demand_step import DemandStep
from engine.backtest.fluid import FluidMarket
from engine.backtest.metrics import (
    EPOCHS_PER_HOUR,
    TARGETS,
    Metrics,
    beyond,
    dual_excess,
    hours_to_reach,
    mean_metrics,
    measure,
    missed_targets,
    steady_cv,
)
from engine.backtest.policies import FixedPrice, OccupancyController, Policy
from engine.backtest.price_picture import price_svg
from engine.backtest.runs import run_seed, run_seeds, table
from engine.backtest.scenario import Level, Scenario
from engine.backtest.simulation import clearing_path, play, welfare_micro_usd
from engine.domain.errors import InvalidInput
from engine.oracle.clearing import dual_one
from tests.backtest.markets import market, markets

SHORT = DemandStep(gpus=500, days=6, first_high_day=3, last_high_day=4)
TINY = DemandStep(gpus=200, days=3, first_high_day=2, last_high_day=2)
LOW, HIGH = Level(0, 48, 1_000_000), Level(48, 96, 2_000_000)


def hourly(*prices_usd: float) -> np.ndarray:
    return np.repeat(np.array(prices_usd) * 1e6, EPOCHS_PER_HOUR).astype(np.int64)


def test_hours_to_reach_count_from_the_step_to_the_stay() -> None:
    """Law: crossing the band for less than the stay asked for does not count; the stay counts from its start."""
    path = hourly(*[1.0] * 48, 1.5, 1.9, 2.5, 2.1, 2.05, *[2.0] * 43)
    assert hours_to_reach(path, HIGH, EPOCHS_PER_HOUR) == 1.0
    assert hours_to_reach(path, HIGH, 2 * EPOCHS_PER_HOUR) == 3.0
    assert hours_to_reach(path, LOW, 48 * EPOCHS_PER_HOUR) == 0.0
    assert hours_to_reach(hourly(*[1.0] * 96), HIGH, 1) is None


def test_beyond_is_measured_in_the_direction_of_the_step() -> None:
    """Law: a rise overshoots upwards, a fall downwards; falling short is no overshoot."""
    fall = Level(48, 96, 500_000)
    assert beyond(hourly(*[1.0] * 48, 2.2, *[2.0] * 47), LOW, HIGH) == pytest.approx(0.1)
    assert beyond(hourly(*[1.0] * 48, 0.4, *[0.5] * 47), LOW, fall) == pytest.approx(0.2)
    assert beyond(hourly(*[1.0] * 96), LOW, HIGH) == 0.0


def test_steady_cv_leaves_the_first_day_of_a_level_out() -> None:
    """Law: what happens on the way to a level is not its noise, and two calm levels are calm."""
    assert steady_cv((LOW, HIGH), hourly(*[9.0] * 24, *[1.0] * 24, *[5.0] * 24, *[2.0] * 24)) == 0.0
    noisy = hourly(*[1.0] * 24, *[0.9, 1.1] * 12)
    assert steady_cv((LOW,), noisy) == pytest.approx(0.1)


@given(markets(), st.integers(0, 3_000_000))
def test_no_price_beats_the_clearing_price(scenario: Scenario, price: int) -> None:
    """Law: p* minimises D of every window, so no path has a negative excess, and p* itself has none."""
    clearing = clearing_path(scenario)
    posted = np.full(scenario.epochs, price, dtype=np.int64)
    assert scenario.full_window < scenario.epochs
    assert dual_excess(scenario, posted, clearing) >= -1e-12
    assert dual_excess(scenario, clearing, clearing) == 0.0


def test_dual_excess_is_the_engines_dual() -> None:
    """Law: the kernel's D is `dual_one` of the same window."""
    scenario = TINY.draw(3)
    clearing = clearing_path(scenario)
    posted = np.full(scenario.epochs, 2_000_000, dtype=np.int64)
    excess = []
    for epoch in range(scenario.full_window, scenario.epochs):
        window = slice(scenario.window_first[epoch], scenario.edge[epoch])
        book = (
            scenario.value_micro_usd_per_gpu_hour[window],
            scenario.gpu_seconds[window],
            np.array([scenario.ask_micro_usd_per_gpu_hour]),
            scenario.window_supply_gpu_seconds[epoch : epoch + 1],
        )
        excess.append(dual_one(2_000_000, *book) / dual_one(int(clearing[epoch]), *book) - 1.0)
    assert dual_excess(scenario, posted, clearing) == pytest.approx(np.mean(excess), rel=1e-9)


def test_shares_of_a_market_written_by_hand() -> None:
    """Law: stock-outs count among those who would have paid, make-whole against what was paid."""
    hour = 3_600
    rows = [(0, hour, 4, 3_000_000), (1, hour, 4, 3_000_000), (2, hour, 2, 1_500_000), (3, hour, 1, 900_000)]
    scenario = market(rows, [6] * 12)
    found = measure(
        scenario, play(scenario, FixedPrice(1_000_000), clearing_path(scenario)), np.full(12, 1_750_000)
    )
    assert found.stockout_share == pytest.approx(1 / 3)
    assert found.stockout_gpu_hours_share == pytest.approx(4 / 10)
    assert found.make_whole_share == pytest.approx(2 * 0.25 / 6)
    assert found.welfare_share == pytest.approx((12e6 + 3e6) / 1e6)
    assert found.hours_up is None and found.steady_cv is None


def test_the_fluid_optimum_is_the_known_one() -> None:
    """Law: at 92 % of 5,000 GPUs and loads 1.6 and 3.2 the price serves 57.5 % and 28.75 % of demand."""
    fluid = FluidMarket(2_000_000, 0.5, 4_600)
    values = np.random.default_rng(0).lognormal(np.log(2e6), 0.5, 1_000_000)
    for wanted, share in ((8_000, 0.575), (16_000, 0.2875)):
        served = values >= fluid.price(wanted)
        assert served.mean() == pytest.approx(share, abs=2e-3)
        assert fluid.welfare_micro_usd_per_hour(wanted) == pytest.approx(
            (values * served).mean() * wanted, rel=3e-3
        )
    assert fluid.price(4_000) == 0.0


def means(policy: Policy, seeds: int = 1) -> dict[str, float | None]:
    found: list[Metrics] = []
    for seed in range(seeds):
        scenario = SHORT.draw(seed)
        clearing = clearing_path(scenario)
        found.append(measure(scenario, play(scenario, policy, clearing), clearing))
    return mean_metrics(found)


@pytest.mark.parametrize(
    "policy", [FixedPrice(1_820_000), OccupancyController(0.5), OccupancyController(0.92, 2.0)]
)
def test_a_bad_policy_misses_targets(policy: Policy) -> None:
    """Law: the targets can fail: a price that never moves, one that aims too low, one that overreacts."""
    missed = missed_targets(means(policy))
    assert len(missed) >= 3 and set(missed) <= set(TARGETS)


def test_the_oracle_meets_the_targets_on_a_short_run() -> None:
    """Law: on DESIGN's market, six days of one seed, the oracle keeps the limits and clears better than others.

    Stock-outs come in clusters: one seed says little of them. `walras backtest --scenario demand-step` plays the
    whole, twelve days of twelve seeds.
    """
    found = table(run_seeds(DemandStep(days=6, first_high_day=3, last_high_day=4), range(1), workers=1))
    assert set(missed_targets(found["oracle"])) <= {"stockout_share"}
    for other in ("occupancy", "fixed"):
        assert missed_targets(found[other])
        for metric in ("dual_excess", "make_whole_share", "stockout_share"):
            assert found["oracle"][metric] < found[other][metric]


def test_same_seed_same_bytes() -> None:
    """Law: seed and scenario decide every price and every metric; another seed is another run."""
    first, again, other = run_seed(TINY, 5), run_seed(TINY, 5), run_seed(TINY, 6)
    assert first.metrics == again.metrics != other.metrics
    assert first.clearing.tobytes() == again.clearing.tobytes() != other.clearing.tobytes()
    assert all(first.posted[name].tobytes() == again.posted[name].tobytes() for name in first.posted)


def test_the_number_of_processes_changes_nothing() -> None:
    """Law: two spawned workers give the bytes that one gives."""
    assert table(run_seeds(TINY, range(2), workers=2)) == table(run_seeds(TINY, range(2), workers=1))


def test_the_picture_has_a_panel_for_each_policy(tmp_path: Path) -> None:
    """Law: well-formed, and every policy is named."""
    from xml.etree import ElementTree

    run = run_seed(TINY, 0)
    drawn = ElementTree.fromstring(price_svg(run, "prices"))
    said = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"fixed", "occupancy", "oracle"} <= set(said)


def test_a_broken_scenario_is_refused() -> None:
    """Law: a gang without GPUs and a history without an epoch never reach the kernels."""
    with pytest.raises(InvalidInput):
        market([(0, 60, 0, 1)], [1])
    with pytest.raises(InvalidInput):
        market([(0, 60, 1, 1)], [])
    with pytest.raises(InvalidInput):
        DemandStep(days=8)
    assert (
        welfare_micro_usd(market([], [1]), play(market([], [1]), FixedPrice(1), np.zeros(1, dtype=np.int64))) == 0
    )
