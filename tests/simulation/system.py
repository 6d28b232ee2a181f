"""What the engine takes from the operating system, simulated: threads, their queue and events, file locks, time.

A simulated thread is a real one that runs only while the kernel waits for it, so only one runs at a time and where
it hands over is known: where it blocks. `installed` puts this in place of the standard library's, in the modules
that use threads or read a clock; the code in them is the real one.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

from engine.domain.errors import Unavailable
from engine.journal import claims, following, leadership, pen, writer
from engine.service import failure_runner, order_runner, pauses, replica, snapshot_keeper
from tests.simulation.kernel import SECOND_US, Kernel, Killed, Process


class World:
    """The kernel of now: one simulation runs at a time in a real process."""

    kernel: Kernel
    thread: Thread | None = None


def _nothing() -> None:
    """The work of an idle stack."""


class _Stack:
    """A real thread on which simulated ones run, one after another: making one for each would cost more."""

    idle: ClassVar[list[_Stack]] = []

    def __init__(self) -> None:
        self.go, self.back = _thread.allocate_lock(), _thread.allocate_lock()
        self.go.acquire()
        self.back.acquire()
        self.work: Callable[[], None] = _nothing
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self.go.acquire()
            self.work()
            self.work = _nothing  # what it worked for, a whole life, is not to stay with an idle stack
            self.back.release()

    def let_run(self) -> None:
        """Wait while it runs until it blocks, or its work is done."""
        self.go.release()
        self.back.acquire()

    def block(self) -> None:
        """Called on it: let who waits go on."""
        self.back.release()
        self.go.acquire()


class Thread:
    """Stands in for `threading.Thread`."""

    def __init__(
        self, target: Callable[..., object], name: str = "", daemon: bool = True, args: tuple[Any, ...] = ()
    ) -> None:
        self._target, self._args, self._kernel = target, args, World.kernel
        process = self._kernel.current
        assert process is not None, "threads belong to a process"
        self.process = process
        self._stack: _Stack | None = None
        self._is_done = self._is_killed = False
        self._joining: list[Event] = []
        process.threads.append(self)

    def start(self) -> None:
        self._kernel.at(0, self.process, self._begin)

    def _begin(self) -> None:
        self._stack = _Stack.idle.pop() if _Stack.idle else _Stack()
        self._stack.work = self._run
        self.resume()

    def _run(self) -> None:
        try:
            self._target(*self._args)
        except Killed:
            pass
        except BaseException as error:
            if not self._is_killed:
                self._kernel.fault("0", f"a thread died of {error!r}")
        self._is_done = True
        for event in self._joining:
            event.set()

    def resume(self) -> None:
        """Let it run on until it blocks again."""
        if self._is_done or self._stack is None:
            return
        before, World.thread = World.thread, self
        self._stack.let_run()
        World.thread = before
        if self._is_done:
            _Stack.idle.append(self._stack)
            self.process.threads.remove(self)

    def park(self) -> None:
        """Called in it: block until resumed."""
        assert self._stack is not None
        if not self._is_killed:
            self._stack.block()
        if self._is_killed:
            raise Killed

    def unwind(self) -> None:
        """End it where it stands."""
        self._is_killed = True
        self.resume()

    def join(self, timeout: float | None = None) -> None:
        if not self._is_done:
            event = Event()
            self._joining.append(event)
            event.wait(timeout)

    def is_alive(self) -> bool:
        return not self._is_done


def here() -> Thread:
    """The simulated thread that runs."""
    assert World.thread is not None, "only a thread may block"
    return World.thread


def sleep_us(delay_us: int) -> None:
    """Block the running thread for so long."""
    thread = here()
    World.kernel.at(delay_us, thread.process, thread.resume)
    thread.park()


class Event:
    """Stands in for `threading.Event`."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[_Wait] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            World.kernel.at(0, wait.thread.process, wait.over)

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            wait = _Wait(here())
            self._waiting.append(wait)
            if timeout is not None:
                World.kernel.at(round(timeout * SECOND_US), wait.thread.process, wait.over)
            wait.thread.park()
        return self._is_set


class _Wait:
    """One blocking of a thread, which ends once."""

    def __init__(self, thread: Thread) -> None:
        self.thread, self._is_over = thread, False

    def over(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.thread.resume()


class SimpleQueue:
    """Stands in for `queue.SimpleQueue`, for one reader."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._filled = Event()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._filled.set()

    def get(self) -> Any:
        while not self._items:
            self._filled = Event()
            self._filled.wait()
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items


class ProcessLock:
    """Stands in for the lock on a file, which the kernel drops when its holder dies."""

    def __init__(self, file: Path) -> None:
        process, held = here().process, World.kernel.__dict__.setdefault("locks", {})
        holder: Process | None = held.get(file)
        if holder is not None and holder.is_alive:
            raise Unavailable(f"{file.parent} is in use by another engine ({holder.name})")
        held[file] = process
        self._held, self._file, self._process = held, file, process

    @property
    def is_held(self) -> bool:
        return self._held.get(self._file) is self._process

    def release(self) -> None:
        if self.is_held:
            del self._held[self._file]


def _now_s() -> float:
    return World.kernel.now_us / SECOND_US


CLOCK = SimpleNamespace(
    monotonic=_now_s,
    perf_counter=_now_s,
    perf_counter_ns=lambda: World.kernel.now_us * 1_000,
    time_ns=time.time_ns,
)
THREADING = SimpleNamespace(Thread=Thread, Event=Event, Lock=threading.Lock, Condition=threading.Condition)
QUEUE = SimpleNamespace(SimpleQueue=SimpleQueue)
REPLACED = (
    (writer, "threading", THREADING),
    (writer, "queue", QUEUE),
    (writer, "time", CLOCK),
    (pen, "threading", THREADING),
    (leadership, "threading", THREADING),
    (leadership, "time", CLOCK),
    (following, "time", CLOCK),
    (claims, "ProcessLock", ProcessLock),
    (replica, "threading", THREADING),
    (replica, "POLL_S", 1.0),
    (snapshot_keeper, "time", CLOCK),
    (order_runner, "time", CLOCK),
    (failure_runner, "time", CLOCK),
    (pauses, "time", CLOCK),
)


@contextmanager
def installed(kernel: Kernel) -> Iterator[None]:
    """The simulated system in place of the real one."""
    World.kernel, World.thread = kernel, None
    with ExitStack() as stack:
        for module, name, simulated in REPLACED:
            stack.enter_context(patch.object(module, name, simulated))
        yield
