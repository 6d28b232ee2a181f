"""What the audit sees in one pass is what NumPy and Python see (solvers.audited)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.audited import Gang, gang_of, paid_by_hour

NODE = st.tuples(*(st.integers(0, 2) for _ in range(5)))


def slow_gang(
    rank: np.ndarray, state: np.ndarray, unused: np.ndarray, model: np.ndarray, gpus: np.ndarray
) -> Gang:
    """The dumb twin, rule by rule."""
    return Gang(
        all(after > before for before, after in pairwise(rank)),
        sum(gpus.tolist()),
        min(gpus.tolist()),
        all((unused - gpus) >= 0),
        len(set(state.tolist())) == 1,
        len(set(model.tolist())) == 1,
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(NODE, min_size=1, max_size=4))
def test_a_gang_is_seen_as_it_is(nodes: list[tuple[int, ...]]) -> None:
    """Law: every rule is judged as by its dumb twin; small numbers break each of them often."""
    columns = [np.array(column) for column in zip(*nodes, strict=True)]
    assert gang_of(*columns) == slow_gang(*columns)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 100_000))
def test_hours_are_paid_second_by_second(seed: int, duration_s: int) -> None:
    """Law: every hour costs the larger of ask and price, the last one for as long as it lasts."""
    draws = np.random.default_rng(seed)
    hours = -(-duration_s // 3_600)
    prices, nodes = draws.integers(0, 1_000, (3, hours + 2)), draws.integers(1, 6)
    market, asks = draws.integers(0, 3, nodes), draws.integers(0, 1_000, nodes)
    expected = [
        sum(
            max(price, ask) * min(3_600, duration_s - 3_600 * hour)
            for hour, price in enumerate(prices[own, :hours])
        )
        for own, ask in zip(market, asks, strict=True)
    ]
    assert paid_by_hour(prices, market, asks, hours, duration_s - 3_600 * (hours - 1)).tolist() == expected
