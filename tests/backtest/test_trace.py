"""The bound of the trace scenario, and the scenario on real data where that is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.runs import run_seed
from engine.backtest.scenario import Scenario
from engine.backtest.simulation import play_fixed, welfare_micro_usd
from engine.backtest.trace import Trace
from engine.domain.errors import InvalidInput
from solvers.backtest.dual_path import least_hourly_dual
from tests.backtest.markets import EPOCHS, markets

DATA = os.environ.get("WALRAS_DATA")


@given(markets(), st.integers(0, 3_000_000), st.integers(1, 20))
def test_no_policy_exceeds_the_hourly_bound(scenario: Scenario, price: int, supply: int) -> None:
    """Law: weak duality: whatever is served at whatever price, welfare is at most D at any hourly prices."""
    steady = Scenario(
        scenario.arrival_us,
        scenario.duration_s,
        scenario.gpus,
        scenario.value_micro_usd_per_gpu_hour,
        np.full(EPOCHS, supply),
        0,
        (),
        1_000_000,
        1.0,
    )
    start_h = steady.arrival_us / 3.6e9
    end_h, worth = start_h + steady.duration_s / 3_600, steady.value_micro_usd_per_gpu_hour.astype(float)
    gangs = (start_h, end_h, steady.gpus.astype(float), worth)
    bound = least_hourly_dual(gangs, np.full(4, float(supply)), 20, 1e6)
    assert welfare_micro_usd(steady, play_fixed(steady, price)) <= bound * (1 + 1e-9) + 1e-6


def test_the_hourly_bound_is_tight_where_the_optimum_is_known() -> None:
    """Law: of two gangs that want all GPUs in the same hour, the bound is the better one's value."""
    both = np.array([0.0, 0.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([3.0, 5.0])
    assert least_hourly_dual(both, np.array([2.0]), 500, 1.0) == pytest.approx(10.0, rel=1e-2)


@pytest.mark.skipif(DATA is None, reason="WALRAS_DATA does not name the public data")
def test_real_traces_are_played() -> None:
    """Law: same seed, same stream; supply moves; metrics of steps are unknown, the others are shares."""
    trace = Trace(Path(str(DATA)), days=3)
    one, again = trace.draw(1), trace.draw(1)
    assert one.arrival_us.tobytes() == again.arrival_us.tobytes()
    assert one.supply_gpus.min() < one.supply_gpus.max() <= trace.gpus
    for metrics in run_seed(trace, 1).metrics.values():
        assert metrics.hours_up is None and metrics.steady_cv is None
        assert 0 < metrics.welfare_share <= 1 and 0 <= metrics.stockout_share <= 1 and metrics.dual_excess >= 0


def test_missing_traces_are_named(tmp_path: Path) -> None:
    """Law: a file that is not there is bad input, and is named."""
    with pytest.raises(InvalidInput, match=r"hourly_summary\.csv"):
        Trace(tmp_path).draw(0)
