"""How a bug is planted: a patch of the real code, under a name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

Bug = Callable[[], AbstractContextManager[Any]]
BUGS: dict[str, Bug] = {}


def bug(name: str) -> Callable[[Bug], Bug]:
    """Add a bug to the list."""

    def add(make: Bug) -> Bug:
        BUGS[name] = make
        return make

    return add


def instead(owner: Any, name: str, wrong: Callable[..., Any]) -> Any:
    """A patch whose function gets the right one as its first argument."""
    right = getattr(owner, name)
    return patch.object(owner, name, lambda *given, **named: wrong(right, *given, **named))


def both(*patches: Any) -> AbstractContextManager[Any]:
    """Several patches together."""
    stack = ExitStack()
    for each in patches:
        stack.enter_context(each)
    return stack
