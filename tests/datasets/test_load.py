import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets.draws import stream
from engine.datasets.load import LARGEST_SIZE, scaled_sizes
from engine.domain.errors import InvalidInput

SIZES = st.lists(st.integers(1, 128), min_size=1, max_size=60)


@given(SIZES, st.floats(0.0, 1.0), st.integers(0, 1_000))
def test_sizes_are_powers_of_two_that_sum_to_the_target(sizes: list[int], level: float, seed: int) -> None:
    least, most = len(sizes), len(sizes) * LARGEST_SIZE
    target = least + level * (most - least)
    scaled = scaled_sizes(np.array(sizes), target, stream(seed, "test"))
    assert all(size in {1 << k for k in range(11)} for size in scaled)
    assert abs(int(scaled.sum()) - target) <= LARGEST_SIZE / 4


@given(SIZES, st.floats(0.0, 1.0))
def test_a_larger_request_never_becomes_the_smaller_one(sizes: list[int], level: float) -> None:
    target = len(sizes) * (1 + level * (LARGEST_SIZE - 1))
    scaled = scaled_sizes(np.array(sizes), target, stream(0, "test"))
    ordered = scaled[np.lexsort((scaled, np.array(sizes)))]
    largest_so_far = 0
    for size in sorted(set(sizes)):
        group = ordered[np.sort(sizes) == size]
        assert group.min() >= largest_so_far
        largest_so_far = int(group.max())


@given(SIZES, st.floats(1.0, 64.0))
def test_up_to_one_tied_step_all_share_one_factor(sizes: list[int], factor: float) -> None:
    """The slow twin: multiply by one factor and round on the logarithmic scale."""
    original = np.array(sizes)
    twin = np.exp2(np.clip(np.round(np.log2(original * factor)), 0, 10)).astype(np.int64)
    scaled = scaled_sizes(original, float(twin.sum()), stream(0, "test"))
    assert scaled.sum() == twin.sum()
    assert (np.sort(scaled) == np.sort(twin)).all()


@pytest.mark.parametrize("load_gpus", [9.0, 10_241.0, float("nan"), float("inf")])
def test_a_load_out_of_reach_is_refused(load_gpus: float) -> None:
    with pytest.raises(InvalidInput, match="load"):
        scaled_sizes(np.ones(10, dtype=np.int64), load_gpus, stream(0, "test"))
