"""What the same nodes give every time a server starts, worked out once: a restore took a quarter of a run's time.

Only columns that nothing changes; each inventory's own arrays are still made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

from engine.market import state_codec
from engine.market.inventory import Inventory

_FRAMES: dict[int, Any] = {}
"""Kept, so that no other frame gets their identity."""


def _once_a_frame(method: Callable[[Inventory], Any]) -> Callable[[Inventory], Any]:
    made: dict[int, Any] = {}

    def remembered(inventory: Inventory) -> Any:
        name = id(inventory.frame)
        if name not in made:
            _FRAMES[name], made[name] = inventory.frame, method(inventory)
        return made[name]

    return remembered


_REMEMBERED = (
    (state_codec, "read_frame", cache(state_codec.read_frame)),
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
