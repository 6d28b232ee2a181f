"""Searching parts in spawned processes that share the large arrays.

What all passes read is written to shared memory once, where a pass begins once for each pass. A worker sends
back what its part changed and changes nothing else, so the part of a worker that dies is done again by another.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning.assignment import Assignment
from solvers.planning.shared_memory import Opened, Parcel, shared
from solvers.planning.workers import (
    Changes,
    Part,
    Start,
    Task,
    changes_of_part,
    constants_of,
    largest_first,
    search_part,
    write_changes,
)

Int = NDArray[np.int64]
Float = NDArray[np.float64]

PATIENCE_S = 300.0
"""Workers that are silent for so long are taken for dead."""
GRACE_S = 0.5
"""How long an answer may come after the clock; what comes later is given up."""
ENDING_S = 10.0
LOSSES_MAX = 8
"""After so many deaths the rest is done here, where a fault in the search itself would be raised."""


class Job(NamedTuple):
    """What a worker is told. `ends_at_s` as `time.monotonic` reads, which all processes of a machine share."""

    constants: Parcel
    start: Parcel
    part: Part
    ends_at_s: float


def serve(connection: Connection) -> None:
    """Answer jobs with changes until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    constants: Opened | None = None
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            break
        if constants is None or constants.name != job.constants.name:
            if constants is not None:
                constants.close()
            constants = Opened(job.constants)
        start = Opened(job.start)
        changes = changes_of_part(constants.value, start.value, job.part, job.ends_at_s)
        start.close()
        connection.send(changes)
    if constants is not None:
        constants.close()


class Worker:
    """One spawned process."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, job: Job) -> bool:
        """False if the worker is dead."""
        try:
            self.connection.send(job)
        except OSError:
            return False
        return True

    def answer(self) -> Changes | None:
        """None if the worker died over it."""
        try:
            changes: Changes = self.connection.recv()
        except (EOFError, OSError):
            return None
        return changes

    def end(self) -> None:
        """Kill the process: it keeps nothing that anybody needs."""
        self.connection.close()
        self.process.kill()
        self.process.join(ENDING_S)


class Processes:
    """`Searchers` with processes of this machine, started on entering and ended on leaving the context."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.patience_s = PATIENCE_S
        self.losses = 0
        self._idle: list[Worker] = []
        self._busy: dict[Worker, Part] = {}
        self._task: Task | None = None
        self._constants: Parcel | None = None
        self._memory = ExitStack()

    def __enter__(self) -> Self:
        self._idle = [Worker() for _ in range(self.count)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._end_busy()
        while self._idle:
            self._idle.pop().end()
        self._memory.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in (*self._idle, *self._busy)]

    def search(
        self,
        task: Task,
        price: Float,
        walk: Arrays,
        owner: Int,
        parts: list[Part],
        assignment: Assignment,
        left_s: float,
    ) -> None:
        """See `Searchers`. OSError if there is too little shared memory."""
        ends_at_s = time.monotonic() + left_s
        start = Start(price, walk[:3], owner, assignment.state)
        waiting = largest_first(parts)[::-1]
        with shared(start) as parcel:
            try:
                while (waiting or self._busy) and self.losses <= LOSSES_MAX:
                    self._hand_out(waiting, self._shared_constants(task), parcel, ends_at_s)
                    if not self._take_answers(waiting, assignment, ends_at_s):
                        return
            finally:
                waiting += self._end_busy()
        for part in waiting:
            search_part(constants_of(task), start, part, ends_at_s)

    def _shared_constants(self, task: Task) -> Parcel:
        if self._constants is None or self._task is not task:
            self._memory.close()
            self._constants = self._memory.enter_context(shared(constants_of(task)))
            self._task = task
        return self._constants

    def _hand_out(self, waiting: list[Part], constants: Parcel, start: Parcel, ends_at_s: float) -> None:
        """Give every worker a part, the last of `waiting` first."""
        while waiting and len(self._busy) < self.count and self.losses <= LOSSES_MAX:
            worker = self._idle.pop() if self._idle else Worker()
            if worker.send(Job(constants, start, waiting[-1], ends_at_s)):
                self._busy[worker] = waiting.pop()
            else:
                self._lose(worker)

    def _take_answers(self, waiting: list[Part], assignment: Assignment, ends_at_s: float) -> bool:
        """Write what workers found; parts of dead ones wait again. False when the time is over."""
        if not self._busy:
            return True
        left_s = max(ends_at_s + GRACE_S - time.monotonic(), 0.0)
        ready = wait([worker.connection for worker in self._busy], min(self.patience_s, left_s))
        heard = [worker for worker in self._busy if worker.connection in ready]
        if not heard and time.monotonic() >= ends_at_s + GRACE_S:
            return False
        for worker in heard or list(self._busy):
            part, changes = self._busy.pop(worker), worker.answer() if heard else None
            if changes is None:
                self._lose(worker)
                waiting.append(part)
            else:
                write_changes(changes, assignment.state)
                self._idle.append(worker)
        return True

    def _lose(self, worker: Worker) -> None:
        worker.end()
        self.losses += 1

    def _end_busy(self) -> list[Part]:
        """End who still works; their parts."""
        parts = list(self._busy.values())
        for worker in self._busy:
            worker.end()
        self._busy.clear()
        return parts
