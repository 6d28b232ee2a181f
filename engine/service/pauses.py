"""Pauses between pieces of the engine's own work, so that calls come first.

All is decided on one loop, and a call comes back to it some ten times before it is answered. Work that only gives
up the loop between its pieces is therefore met ten times by every call. So it rests for REST times as long as the
last piece took, as long as calls come; when none do it goes on at once.
"""

from __future__ import annotations

import asyncio
import time

from engine.service.engine import Engine

REST = 6.0


class Pauses:
    """Of one kind of work on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._calls = engine, engine.calls
        self.begin()

    def begin(self) -> None:
        """A piece of work begins now."""
        self._since_s = time.perf_counter()

    async def pause(self) -> None:
        """The piece is done: let calls through, then begin the next one."""
        took_s, called = time.perf_counter() - self._since_s, self._engine.calls != self._calls
        self._calls = self._engine.calls
        await asyncio.sleep(REST * took_s if called else 0)
        self._since_s = time.perf_counter()
