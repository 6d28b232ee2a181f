"""Running one plan at a time beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from engine.domain.errors import Overloaded
from engine.service.priorities import lower_planner
from solvers.planning.plan import OnProgress, Progress

Made = TypeVar("Made")
RETRY_AFTER_S = 5.0


class Stopped(Exception):
    """Raised inside the search when nobody waits for it any more."""


class PlanRunner(Generic[Made]):
    """The one place where a plan can be made."""

    def __init__(self) -> None:
        self._free = threading.Lock()

    async def run(self, make: Callable[[OnProgress], Made]) -> AsyncGenerator[Progress | Made, None]:
        """The progress of `make` in a thread of its own, then what it made; Overloaded while another one runs.

        Closing the iterator stops `make` at its next report; until then its place stays taken.
        """
        if not self._free.acquire(blocking=False):
            raise Overloaded("another plan is being made", RETRY_AFTER_S)
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        steps: asyncio.Queue[Progress | None] = asyncio.Queue()

        def report(step: Progress | None) -> None:
            if stopped.is_set():
                raise Stopped
            loop.call_soon_threadsafe(steps.put_nowait, step)

        def work() -> Made | None:
            try:
                return make(report)
            except Stopped:
                return None
            finally:
                self._free.release()

        thread = ThreadPoolExecutor(1, "plan", initializer=lower_planner)
        making = loop.run_in_executor(thread, work)
        thread.shutdown(wait=False)  # it ends when the plan is made
        making.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                yield step
            made = making.result()
            assert made is not None
            yield made
        finally:
            stopped.set()
