"""What the same nodes give at every start of a server and in every snapshot, worked out once: a third of a run.

Only columns that nothing changes; each inventory's own arrays are still made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import polars as pl

from engine.market import inventory, state_codec
from engine.market.fleet_columns import grades
from engine.market.inventory import Int, Inventory
from engine.market.vocabulary import Vocabulary, vocabulary

_FRAMES: dict[int, Any] = {}
"""Kept, so that no other frame gets their identity."""


def _once_a_frame(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`work` on a frame, or on an inventory of one."""
    made: dict[int, Any] = {}

    def remembered(given: Any) -> Any:
        frame = given.frame if isinstance(given, Inventory) else given
        if id(frame) not in made:
            _FRAMES[id(frame)], made[id(frame)] = frame, work(given)
        return made[id(frame)]

    return remembered


@cache
def _vocabulary_of(names: tuple[str | None, ...]) -> Vocabulary:
    return vocabulary(pl.Series(names, dtype=pl.String))


@cache
def _grades_of(names: tuple[str | None, ...], ladder: Any) -> Int:
    return grades(pl.Series(names, dtype=pl.String), ladder)


_REMEMBERED = (
    (state_codec, "read_frame", cache(state_codec.read_frame)),
    (state_codec, "write_frame", _once_a_frame(state_codec.write_frame)),
    (inventory, "vocabulary", lambda column: _vocabulary_of(tuple(column.to_list()))),
    (inventory, "grades", lambda column, ladder: _grades_of(tuple(column.to_list()), ladder).copy()),
    (Inventory, "_nodes", _once_a_frame(Inventory._nodes)),
    (Inventory, "_sites", _once_a_frame(Inventory._sites)),
)


@contextmanager
def remembered() -> Iterator[None]:
    """Patches that spare the work."""
    with ExitStack() as stack:
        for owner, name, cached in _REMEMBERED:
            stack.enter_context(patch.object(owner, name, cached))
        yield
