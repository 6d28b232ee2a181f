"""A history in one line of characters: the lowest value is the lowest block, the highest the highest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.,:-=*#"
WIDTH = 16


def sparkline(values: Sequence[int], levels: str = BLOCKS, width: int = WIDTH) -> str:
    """At most `width` characters, oldest first; each is the last value of its part. Constant values lie low."""
    parts = min(width, len(values))
    shown = [values[(part + 1) * len(values) // parts - 1] for part in range(parts)]
    if not shown:
        return ""
    low, span = min(shown), max(max(shown) - min(shown), 1)
    return "".join(levels[(value - low) * (len(levels) - 1) // span] for value in shown)


def levels_of(console: Console) -> str:
    """Block characters, or plain ones where the console's encoding or terminal has none."""
    try:
        BLOCKS.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return PLAIN if os.environ.get("TERM") == "dumb" and console.is_terminal else BLOCKS
