"""Where answers and remarks go: stdout and stderr, as rich consoles that also write to pipes and files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 140
"""Columns where there is no terminal to ask; rich would take 80 and fold tables."""


def answers() -> Console:
    """The console of stdout."""
    return _console(stderr=False)


def remarks() -> Console:
    """The console of stderr: errors, explanations of a no, progress."""
    return _console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON document, on one line, to stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def _console(stderr: bool) -> Console:
    from rich.console import Console

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # No markup: node ids and messages of the engine may hold square brackets.
    return Console(stderr=stderr, width=None if is_terminal else PIPE_WIDTH, markup=False, highlight=False)
