import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets.draws import choose, choose_by_row, stream
from engine.domain.errors import InvalidInput

WEIGHTS = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20).filter(lambda weights: sum(weights) > 0)


@given(WEIGHTS, st.integers(0, 2**32))
def test_nothing_of_weight_zero_is_ever_drawn(weights: list[float], seed: int) -> None:
    drawn = choose(stream(seed, "test"), weights, 50)
    assert all(weights[index] > 0 for index in drawn)


def test_draws_follow_the_weights() -> None:
    drawn = choose(stream(1, "test"), [1.0, 0.0, 3.0], 40_000)
    assert np.bincount(drawn, minlength=3) / 40_000 == pytest.approx([0.25, 0.0, 0.75], abs=0.01)


def test_draws_by_row_follow_the_row() -> None:
    weights = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    rows = np.repeat([0, 1], 20_000)
    drawn = choose_by_row(stream(1, "test"), weights, rows)
    for row in (0, 1):
        share = np.bincount(drawn[rows == row], minlength=3) / 20_000
        assert share == pytest.approx(weights[row] / weights[row].sum(), abs=0.02)


def test_streams_are_named_and_seeded() -> None:
    first = stream(1, "a").random(4)
    assert (first == stream(1, "a").random(4)).all()
    assert (first != stream(1, "b").random(4)).all()
    assert (first != stream(2, "a").random(4)).all()


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InvalidInput, match="seed"):
        stream(-1, "a")
