"""Scaling demand to a load: sizes × a common factor, rounded to powers of two, at most 1,024 GPUs.

A request of n GPUs at factor f has the size 2^k with f·n nearest to it on the logarithmic scale, so it steps
from 2^(k-1) to 2^k when f reaches 2^(k-1/2)/n. Traces hold few distinct sizes: thousands of requests step at
the same factor, and whole steps would miss the load by half. So all steps are put in order of factor, ties in
seeded order, and taken until the sum is as near to the target as it gets: at the last factor only as many
requests step as the load needs. The error is at most half a step, 256 GPUs.
"""

from __future__ import annotations

import numpy as np

from engine.datasets.draws import IntArray
from engine.domain.errors import InvalidInput, Violation

LARGEST_EXPONENT = 10
LARGEST_SIZE = 1 << LARGEST_EXPONENT


def scaled_sizes(sizes: IntArray, target_gpus: float, rng: np.random.Generator) -> IntArray:
    """Sizes that sum to `target_gpus` as nearly as powers of two allow; InvalidInput if none do."""
    if not sizes.size <= target_gpus <= sizes.size * LARGEST_SIZE:
        raise InvalidInput([Violation("load", _out_of_reach(sizes.size, target_gpus))])
    exponents = np.arange(1, LARGEST_EXPONENT + 1)
    step_at = (np.exp2(exponents - 0.5)[None, :] / sizes[:, None]).ravel()
    # Within one request the steps stay in order: a larger exponent always needs a larger factor.
    order = np.lexsort((np.repeat(rng.permutation(sizes.size), LARGEST_EXPONENT), step_at))
    added = np.tile(1 << (exponents - 1), sizes.size)[order]
    total = sizes.size + np.concatenate([[0], np.cumsum(added)])
    steps = int(np.argmin(np.abs(total - target_gpus)))
    taken = np.bincount(order[:steps] // LARGEST_EXPONENT, minlength=sizes.size)
    return (1 << taken).astype(np.int64)


def _out_of_reach(requests: int, target_gpus: float) -> str:
    return (
        f"asks for {target_gpus:,.0f} GPUs, but {requests:,} requests of 1 to {LARGEST_SIZE:,} GPUs sum to "
        f"{requests:,} to {requests * LARGEST_SIZE:,}"
    )
