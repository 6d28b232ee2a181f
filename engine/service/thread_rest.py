"""Rests of a thread that wants the interpreter beside the loop.

One that works on for a hundred milliseconds takes every other turn from all calls meanwhile. So it sleeps after
each few milliseconds of work, for REST times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
PIECE_ITEMS = 256
"""Items of a loop between two looks at the clock, which costs half as much as an item."""
REST = 3.0
PIECE_S, LONG_S = 0.002, 1.0
"""It rests after so much work of its own; more than the second was another thread's, or an epoch's before."""


class ThreadRest:
    """To be called after each small piece of work."""

    def __init__(self) -> None:
        self._since_s = 0.0

    def __call__(self) -> None:
        """Sleep, if it is time."""
        worked_s = time.thread_time() - self._since_s
        if not 0.0 <= worked_s < PIECE_S:
            if 0.0 <= worked_s < LONG_S:
                time.sleep(REST * worked_s)
            self._since_s = time.thread_time()


def rested(items: Iterable[Item], rest: Callable[[], None]) -> Iterator[Item]:
    """The items; after each few hundred `rest` is called."""
    for place, item in enumerate(items, 1):
        yield item
        if place % PIECE_ITEMS == 0:
            rest()


def no_rest() -> None:
    """Of work that nobody waits behind."""
