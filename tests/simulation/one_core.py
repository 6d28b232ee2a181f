"""A life on one core: its threads only ever run in turns.

On two, each hand-over wakes a thread on another core, which on a busy machine waits there for its turn.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def on_one_core() -> Iterator[None]:
    """This thread, and those it starts, on one core; where the system cannot do that, as it is."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_own_core()})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@cache
def _own_core() -> int:
    """The same for all lives of a process, whose threads are used again, and another for the process beside it."""
    process = os.environ.get("PYTEST_XDIST_WORKER", multiprocessing.current_process().name)
    number = re.search(r"\d*$", process)
    assert number is not None
    cores = sorted(os.sched_getaffinity(0))
    return cores[int(number.group() or 0) % len(cores)]
