"""Kernels side by side: they release the interpreter's lock, and each range of their work stands for itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np

THREADS = min(os.cpu_count() or 1, 8)
RANGES_OF_THREAD = 4
"""Some ranges take several times as long as others: who is done early takes the next."""
Part = TypeVar("Part")


def in_ranges(count: int, work: Callable[[int, int], Part]) -> list[Part]:
    """What `work(begin, end)` gives for consecutive ranges that make up [0, count), some at a time.

    Whatever `work` changes beyond its range must be its own: no result may depend on how many threads there are.
    """
    edges = np.linspace(0, count, RANGES_OF_THREAD * THREADS + 1).astype(np.int64).tolist()
    return list(_threads(THREADS).map(work, edges[:-1], edges[1:]))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """They stay: to start one takes longer than many a range. No range may wait for others."""
    return ThreadPoolExecutor(count)
