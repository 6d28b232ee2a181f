"""How large a slow test is: small enough for `make test`, or whole under `make full`. The law is the same."""

from __future__ import annotations

import os

FULL = os.environ.get("WALRAS_TESTS") == "full"


def size(quick: int, full: int) -> int:
    """So many worlds, requests or GPUs; `full` where `$WALRAS_TESTS` is "full"."""
    return full if FULL else quick
