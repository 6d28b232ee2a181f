"""Who has how much of a placement (solvers.shares)."""

from __future__ import annotations

from collections import Counter
from math import gcd

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.shares import shares_of

NODE = st.tuples(st.integers(0, 5), st.integers(1, 64), st.sampled_from((0, 0, 6, 35, 10**11)))


@settings(max_examples=200, deadline=None)
@given(st.lists(NODE, min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_shares_are_gpus_times_price_without_a_common_divisor(
    nodes: list[tuple[int, ...]], owner: list[int]
) -> None:
    """Law: as counted one by one, GPUs alone where nothing costs anything; who has nothing is not named."""
    named, gpus, prices = (np.array(column) for column in zip(*nodes, strict=True))
    counted = Counter[int]()
    for node, count, price in nodes:
        counted[owner[node]] += count * price if prices.any() else count
    expected = {name: has for name, has in sorted(counted.items()) if has}
    divisor = gcd(*expected.values())
    own, shares = shares_of(np.array(owner), 4, named, gpus, prices)
    assert own.tolist() == list(expected)
    assert shares.tolist() == [has // divisor for has in expected.values()]
