"""A drawn stock holds what is needed whenever any stock does: compared with looking at them all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets.draws import stream
from engine.datasets.stocks import REPLICA_SIZES, Stocks, draw_stocks

CAPACITIES = st.lists(st.lists(st.integers(0, 64), min_size=4, max_size=4), min_size=1, max_size=12)
NEEDS = st.lists(st.tuples(st.integers(1, 80), st.sampled_from(REPLICA_SIZES)), min_size=1, max_size=20)


@given(CAPACITIES, NEEDS, st.integers(0, 1_000))
def test_a_stock_that_fits_is_drawn_if_there_is_one(
    capacities: list[list[int]], needs: list[tuple[int, int]], seed: int
) -> None:
    count = len(capacities)
    stocks = Stocks(np.arange(count), np.linspace(1.0, 2.0, count), np.array(capacities))
    needed, size = np.array([need for need, _ in needs]), np.array([size for _, size in needs])
    drawn = draw_stocks(stream(seed, "test"), stocks, needed, size)
    for stock, gpus, per_node in zip(drawn, needed, size, strict=True):
        column = stocks.capacity[:, REPLICA_SIZES.index(per_node)]
        assert column[stock] >= min(gpus, column.max())
