"""A binary min-heap in two parallel arrays: keys and the items they stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

Int = NDArray[np.int64]


@kernel
def push(key: Int, item: Int, size: int, new_key: int, new_item: int) -> int:
    """Add to the heap; return its new size."""
    place = size
    while place > 0 and key[(place - 1) // 2] > new_key:
        parent = (place - 1) // 2
        key[place], item[place] = key[parent], item[parent]
        place = parent
    key[place], item[place] = new_key, new_item
    return size + 1


@kernel
def pop(key: Int, item: Int, size: int) -> tuple[int, int]:
    """(item of the least key, new size)."""
    top = item[0]
    size -= 1
    key[0], item[0] = key[size], item[size]
    _sift_down(key, item, size, 0)
    return top, size


@kernel
def _sift_down(key: Int, item: Int, size: int, place: int) -> None:
    while True:
        child = 2 * place + 1
        if child >= size:
            return
        if child + 1 < size and key[child + 1] < key[child]:
            child += 1
        if key[place] <= key[child]:
            return
        key[place], key[child] = key[child], key[place]
        item[place], item[child] = item[child], item[place]
        place = child
