from __future__ import annotations

import pytest

from benchmarks.statistics import exponent, p50, p99


def test_percentiles_of_a_hundred_and_one_values() -> None:
    values = list(range(101))
    assert (p50(values), p99(values)) == (50, 99)


@pytest.mark.parametrize("power", [-0.5, 0.0, 0.3, 1.0])
def test_the_exponent_of_a_power_is_found(power: float) -> None:
    assert exponent({size: 7 * size**power for size in (10, 100, 1_000)}) == pytest.approx(power)
