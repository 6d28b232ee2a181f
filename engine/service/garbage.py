"""Garbage collection of a long-lived process: what lives on is walked once, so that no collection holds the loop.

Python's full collections walk all that lives and come whenever a quarter more does: with a million GPUs and some
thousand orders and leases 100 ms each, and growing. Here they come early, and what survives one is frozen: the
next does not walk it. Reference counts free it all the same; only a cycle that became garbage after it was frozen
stays, until nobody calls for a second and all is walked again.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from engine.service.engine import Engine

THRESHOLDS = 700, 10, 2
"""Python's own, but the last: a full collection after some 20,000 objects more, 1 to 3 ms."""
FULL, QUIET_S = 2, 1.0
WHOLE_AFTER = 500
"""Full collections, some 10 million objects or 300,000 leases, before a quiet moment walks all: a second."""


class Garbage:
    """Of this process, around one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._since_whole = self._calls = 0

    def begin(self) -> None:
        """Collect in small steps from now on; the fleet and the modules are frozen first."""
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(self._collected)
        self._walk_all()

    def end(self) -> None:
        """Let go of the interpreter."""
        gc.callbacks.remove(self._collected)

    async def run(self) -> None:
        """Walk everything in quiet moments, until cancelled."""
        while True:
            await asyncio.sleep(QUIET_S)
            self.tick()

    def tick(self) -> None:
        """Walk everything if it is time and nobody called since the last tick."""
        quiet, self._calls = self._engine.calls == self._calls, self._engine.calls
        if quiet and self._since_whole >= WHOLE_AFTER:
            self._walk_all()

    def _walk_all(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.collect()  # of nothing: Python waits for a quarter of what it walked last
        self._since_whole = 0

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == FULL:
            gc.freeze()
            self._since_whole += 1
