"""Searching the parts of a plan on Ray.

Walras must be installed on every machine of the cluster in the same version. What all passes read is put into
Ray's store once, where a pass begins once for each pass. A part whose worker dies is done again by Ray, and here
if that fails too often: the plan is the same.
"""

from __future__ import annotations

import copy
import os
import socket
import time
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import InvalidInput, Unavailable, Violation
from solvers.kernel import Arrays
from solvers.planning.assignment import Assignment
from solvers.planning.workers import (
    Changes,
    Constants,
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

LOCAL, AUTO = "local", "auto"
CONNECTING_S = 5.0
FETCHING_S = 60.0
PATIENCE_S = 300.0
"""If no part is done for so long, the rest is done here."""
GRACE_S = 1.0
"""How long an answer may come after the clock; what comes later is given up."""
RETRIES = 3
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

_kept: dict[str, Constants] = {}
"""In a worker of the cluster: the constants of the task it works for."""


def changes_and_pid(
    constants: Constants, key: str, start: Start, part: Part, left_s: float
) -> tuple[Changes, int]:
    """What a part changes, and the process that found it; runs on the cluster.

    Arrays from Ray's store can not be written to, which would make other types, and other kernels, of them.
    """
    ends_at_s = time.monotonic() + left_s
    if key not in _kept:
        _kept.clear()
        _kept[key] = copy.deepcopy(constants)
    own_start, own_part = copy.deepcopy((start, part))
    return changes_of_part(_kept[key], own_start, own_part, ends_at_s), os.getpid()


class OnRay:
    """`Searchers` on the Ray cluster at `address`: "local" starts one here, "auto" finds one, HOST:PORT names one.

    `workers`: processors of a local one, by default all. The connection is made on entering and ended on leaving
    the context, unless the process was connected before. Raises InvalidInput if Ray is not installed or the
    address is none, Unavailable if nobody answers.
    """

    def __init__(self, address: str, workers: int | None = None) -> None:
        _check_address(address)
        self.address, self.workers = address, workers
        self.pids: set[int] = set()
        self._ray = _import_ray()
        self._started = False
        self._task: Task | None = None
        self._constants: Any = None

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            _knock(self.address)
            self._connect()
            self._started = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._constants = None
        if self._started:
            self._ray.shutdown()

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
        """See `Searchers`. `pids`: who answered, on whatever machine."""
        ends_at_s = time.monotonic() + left_s
        start = Start(price, walk[:3], owner, assignment.state)
        waiting = self._submit(task, start, parts, left_s)
        try:
            while waiting:
                patience_s = min(PATIENCE_S, max(ends_at_s + GRACE_S - time.monotonic(), 0.0))
                done, _ = self._ray.wait(list(waiting), timeout=patience_s)
                if not done:
                    break
                part = waiting.pop(done[0])
                self._take_answer(done[0], constants_of(task), start, part, ends_at_s)
        finally:
            for late in waiting:
                self._ray.cancel(late, force=True)
        for part in waiting.values():
            search_part(constants_of(task), start, part, ends_at_s)

    def _submit(self, task: Task, start: Start, parts: list[Part], left_s: float) -> dict[Any, Part]:
        """Tasks on the cluster, and the part of each."""
        if self._task is not task:
            self._constants, self._task = self._ray.put(constants_of(task)), task
        begin = self._ray.put(start)
        run = self._ray.remote(changes_and_pid).options(max_retries=RETRIES)
        key = self._constants.hex()
        return {run.remote(self._constants, key, begin, part, left_s): part for part in largest_first(parts)}

    def _take_answer(self, answer: Any, constants: Constants, start: Start, part: Part, ends_at_s: float) -> None:
        """Write what a worker found; do it here if the cluster lost it."""
        try:
            changes, pid = self._ray.get(answer, timeout=FETCHING_S)
        except self._ray.exceptions.RayError:
            search_part(constants, start, part, ends_at_s)
            return
        self.pids.add(pid)
        write_changes(changes, start.state)

    def _connect(self) -> None:
        """Connect to the cluster, or start one that listens on this machine alone."""
        here = {"_node_ip_address": "127.0.0.1", "include_dashboard": False, "num_cpus": self.workers}
        options = here if self.address == LOCAL else {}
        try:
            self._ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", **options)
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            raise Unavailable(f"no Ray at {self.address}: {error}") from error


def _import_ray() -> Any:
    os.environ.update(ENVIRONMENT)
    try:
        import ray
    except ImportError as error:
        violation = Violation("--ray", "Ray is not installed: pip install 'walras[ray]'")
        raise InvalidInput([violation]) from error
    return ray


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address not in (LOCAL, AUTO) and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput([Violation("--ray", f"must be {LOCAL}, {AUTO} or HOST:PORT")])


def _knock(address: str) -> None:
    """Raise Unavailable if nobody listens: Ray itself would try for minutes and then end the process."""
    if address in (LOCAL, AUTO):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECTING_S).close()
    except OSError as error:
        raise Unavailable(f"no Ray at {address}: {error}") from error
