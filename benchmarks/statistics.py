"""Percentiles and growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def p50(values: Sequence[float]) -> float:
    """The median."""
    return float(np.percentile(values, 50))


def p99(values: Sequence[float]) -> float:
    """The 99th percentile, interpolated: of few values nearly the largest."""
    return float(np.percentile(values, 99))


def exponent(cost_of_size: Mapping[int, float]) -> float:
    """b of cost ≈ a·size^b by least squares in logarithms; at least two sizes."""
    sizes, costs = list(cost_of_size), list(cost_of_size.values())
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
