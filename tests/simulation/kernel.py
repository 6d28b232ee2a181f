"""Virtual time: one heap of what happens when, processes that can be paused and killed, an event loop for each.

Nothing here sleeps and nothing runs beside anything else: the next entry of the heap runs to its end. Times are
whole microseconds, all delays that are drawn whole ticks of 10 ms, so that things often happen at the same time.
What does is ordered by a number drawn from the seed; a process's own work keeps its order.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import random
from collections.abc import Callable
from itertools import count
from typing import Any

TICK_US, SECOND_US = 10_000, 1_000_000
START_US = 1_700_000_000 * SECOND_US
OWN = 0
"""Rank among what happens at the same time: a process's own work first."""


class Killed(BaseException):
    """Raised in a simulated thread whose process was killed, to unwind it."""


class Process:
    """What dies, and is stopped, as a whole. `epoch`: in which it leads; `batch_ends`: of its journal."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel, self.name = kernel, name
        self.is_alive, self.is_paused, self.epoch = True, False, 0
        self.loop = ProcessLoop(kernel, self)
        self.batch_ends = set[int]()
        self.threads: list[Any] = []
        self.tasks = list[asyncio.Task[Any]]()
        self.deferred: list[tuple[Any, ...]] = []

    def kill(self) -> None:
        """End it at once: none of its code runs any more, but for the unwinding of its threads' stacks."""
        self.is_alive = False
        for thread in list(self.threads):
            thread.unwind()
        for task in self.tasks:
            if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
                task.get_coro().close()  # type: ignore[union-attr]
        self.tasks.clear()
        self.deferred.clear()

    def pause(self) -> None:
        """Stop it, as SIGSTOP does."""
        self.is_paused = True

    def resume(self) -> None:
        """Let it go on: all that waited happens now."""
        self.is_paused = False
        deferred, self.deferred = self.deferred, []
        for call in deferred:
            self.kernel.at(0, self, *call)


class Kernel:
    """The heap. `draw`: all chance there is. `violations`: what was found; the first one ends the run."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now_us = 0
        self.violations: list[str] = []
        self.current: Process | None = None
        self.steps = 0
        self._heap: list[tuple[int, int, int, Process | None, Callable[..., Any], tuple[Any, ...]]] = []
        self._numbers = count()
        self._loop: ProcessLoop | None = None

    def at(
        self, delay_us: int, process: Process | None, call: Callable[..., Any], *given: Any, rank: int = OWN
    ) -> None:
        """Let something happen after a delay, in a process."""
        heapq.heappush(self._heap, (self.now_us + delay_us, rank, next(self._numbers), process, call, given))

    def any_rank(self) -> int:
        """A rank for what comes from outside."""
        return self.draw.randrange(1, 1_000)

    def ticks_us(self, low: int, high: int) -> int:
        """A drawn delay of so many ticks."""
        return self.draw.randint(low, high) * TICK_US

    def fault(self, law: str, told: str) -> None:
        """Note a violation."""
        self.violations.append(f"law {law}: {told} (at {self.now_us / SECOND_US:.6f} s)")

    def run(self, is_done: Callable[[], bool], until_us: int) -> None:
        """Let happen what happens until it is done, something is violated, or it is too late."""
        try:
            self._run(is_done, until_us)
        finally:
            self.enter(None)

    def _run(self, is_done: Callable[[], bool], until_us: int) -> None:
        while self._heap and not self.violations and not is_done():
            at_us, _, _, process, call, given = heapq.heappop(self._heap)
            if at_us > until_us:
                self.fault("0", "the run does not come to an end")
                return
            self.now_us = at_us
            if process is not None and not process.is_alive:
                continue
            if process is not None and process.is_paused:
                process.deferred.append((call, *given))
                continue
            self.steps += 1
            self.current = process
            call(*given)
            self.current = None

    def enter(self, loop: ProcessLoop | None) -> None:
        """Tell asyncio whose work runs from now on; each time costs it a system call."""
        if loop is not self._loop:
            self._loop = loop
            asyncio._set_running_loop(loop)


class ProcessLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as asyncio's own tasks, futures and timeouts need, on a kernel."""

    def __init__(self, kernel: Kernel, process: Process | None) -> None:
        self._kernel, self._process = kernel, process
        self.start_thread: Callable[[Callable[[], None]], object] = lambda work: work()

    def time(self) -> float:
        return self._kernel.now_us / SECOND_US

    def _run(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        self._kernel.enter(self)
        handle._run()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._kernel.at(0, self._process, self._run, handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        at_us = round(when * SECOND_US)
        handle = asyncio.TimerHandle(at_us / SECOND_US, callback, args, self, context)
        self._kernel.at(max(0, at_us - self._kernel.now_us), self._process, self._run, handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when their time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if self._process is not None:
            self._process.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                self.call_soon(_settle, future, None, error)
            else:
                self.call_soon(_settle, future, result, None)

        self.start_thread(work)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._process is None or self._process.is_alive:
            self._kernel.fault("0", f"nobody took {context.get('exception') or context.get('message')!r}")


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
