"""Small markets for the tests of the back-test: drawn by Hypothesis, or written by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from engine.backtest.scenario import MICROSECONDS, PARAMETERS, Level, Scenario

EPOCHS = 24
WINDOW_S = 1_800


def market(
    rows: list[tuple[int, int, int, int]], supply: list[int], levels: tuple[Level, ...] = (), ask: int = 0
) -> Scenario:
    """A scenario of rows (arrival in seconds, duration in seconds, GPUs, value in micro-USD per GPU-hour)."""
    columns = np.array(sorted(rows), dtype=np.int64).reshape(-1, 4)
    return Scenario(
        columns[:, 0] * MICROSECONDS,
        columns[:, 1],
        columns[:, 2],
        columns[:, 3],
        np.array(supply, dtype=np.int64),
        ask,
        levels,
        1_000_000,
        1e6,
        WINDOW_S,
    )


@st.composite
def markets(draw: st.DrawFn) -> Scenario:
    """Up to 40 gangs in two hours, and supply that changes from epoch to epoch."""
    horizon_s = EPOCHS * PARAMETERS.epoch_us // MICROSECONDS
    row = st.tuples(
        st.integers(0, horizon_s - 1), st.integers(1, 4_000), st.integers(1, 8), st.integers(0, 3_000_000)
    )
    supply = draw(st.lists(st.integers(0, 20), min_size=EPOCHS, max_size=EPOCHS))
    return market(draw(st.lists(row, max_size=40)), supply)
