"""Seeded draws by the column.

Weighted choice is inverse-transform sampling on the running sum of the weights: one uniform number a draw,
whatever the weights. `numpy.random.Generator.choice` would do, but refuses weights whose sum is off by a
rounding error, and its stream is not promised between versions as that of `random` is.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.domain.errors import InvalidInput, Violation

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Weights: TypeAlias = Sequence[float] | FloatArray


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream of one step: independent between names, the same for the same seed and name."""
    if seed < 0:
        raise InvalidInput([Violation("seed", f"must not be negative, got {seed}")])
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))


def choose(rng: np.random.Generator, weights: Weights, size: int) -> IntArray:
    """Draw `size` indices with replacement, each in proportion to its weight (not negative, not all 0)."""
    running = np.cumsum(np.asarray(weights, dtype=np.float64))
    drawn = np.searchsorted(running, rng.random(size) * running[-1], side="right")
    return np.asarray(np.minimum(drawn, running.size - 1), dtype=np.int64)


def choose_by_row(rng: np.random.Generator, weights: FloatArray, rows: IntArray) -> IntArray:
    """Draw one column index for each entry of `rows`, by the weights of that row of the matrix."""
    running = np.cumsum(weights, axis=1)
    level = rng.random(rows.size) * running[rows, -1]
    drawn = (level[:, None] >= running[rows]).sum(axis=1)
    return np.asarray(np.minimum(drawn, weights.shape[1] - 1), dtype=np.int64)


def zipf_weights(count: int, exponent: float, offset: float) -> FloatArray:
    """Weights 1 / (rank + offset)^exponent of ranks 1 to `count`: few large, many small."""
    return np.asarray((np.arange(1, count + 1) + offset) ** -exponent, dtype=np.float64)


def lognormal(rng: np.random.Generator, sigma: float, size: int) -> FloatArray:
    """Factors exp(N(0, sigma²)), median 1."""
    return np.exp(rng.normal(0.0, sigma, size))
