"""Choosing among equals: fewest idle nodes broken, by enumeration (solvers.fill)."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.fill import FRAGMENT, IMPERFECT, PERFECT, choose_sizes, fill

candidates = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([FRAGMENT, PERFECT, IMPERFECT])), min_size=1, max_size=5
)


def broken(holds: list[int], kinds: list[int], take: tuple[int, ...]) -> int:
    """Idle nodes that are used in part; an imperfect one is whenever it is used."""
    return sum(
        (kind == PERFECT and 0 < taken < hold) or (kind == IMPERFECT and taken > 0)
        for hold, kind, taken in zip(holds, kinds, take, strict=True)
    )


@settings(max_examples=300, deadline=None)
@given(candidates, st.data())
def test_fill_breaks_as_few_idle_nodes_as_possible(nodes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Law: the number returned is the least over all ways to take the wanted replicas, and is what was taken."""
    holds, kinds = [hold for hold, _ in nodes], [kind for _, kind in nodes]
    wanted = data.draw(st.integers(0, sum(holds)))
    take = np.zeros(len(nodes), dtype=np.int64)
    reported = fill(np.array(holds), np.array(kinds), np.arange(len(nodes)), wanted, take)
    ways = (way for way in product(*(range(hold + 1) for hold in holds)) if sum(way) == wanted)
    assert take.sum() == wanted
    assert all(0 <= taken <= hold for taken, hold in zip(take, holds, strict=True))
    assert reported == broken(holds, kinds, tuple(take.tolist())) == min(broken(holds, kinds, way) for way in ways)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=6), st.integers(-3, 20), st.integers(0, 20))
def test_choose_sizes_finds_a_subset_sum_if_there_is_one(counts: list[int], low: int, high: int) -> None:
    """Law: bounded subset sum is exact; the chosen pieces exist and sum to the least reachable total."""
    counts[0] = 0
    chosen = np.zeros(len(counts), dtype=np.int64)
    found = choose_sizes(np.array(counts), low, high, chosen)
    sums = {
        sum(size * used for size, used in enumerate(way))
        for way in product(*(range(count + 1) for count in counts))
    }
    reachable = [total for total in sorted(sums) if max(low, 0) <= total <= high]
    assert found == bool(reachable)
    if found:
        assert (chosen <= np.array(counts)).all()
        assert int((chosen * np.arange(len(counts))).sum()) == reachable[0]
