"""Whose turn it is where threads of the engine want the same core: decisions, then reading, then plans (Linux).

gRPC reads calls in threads of its own, and ends those beyond its line there. At the same priority every arrival
interrupts a decision to read one call. At a lower one they come later and read many at once, which costs less, and
decisions get the greater share. With a core to spare nothing changes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

READERS = ("event_engine", "lifeguard")
"""What gRPC names them; the second starts more of the first, at its own priority."""
READING_NICE, PLANNING_NICE = 10, 15
"""A ninth and a twenty-eighth of the weight of a thread that decides (sched(7))."""
NICE_MAX = 19
TASKS = Path("/proc/self/task")
"""Where the system names threads, each has a priority of its own; elsewhere they all keep that of the process."""


def lower_readers() -> None:
    """Give the threads of this process that read the network their priority."""
    for task in TASKS.iterdir() if TASKS.is_dir() else ():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if (task / "comm").read_text().strip() in READERS:
                _lower(int(task.name), READING_NICE)


def lower_planner() -> None:
    """Give the calling thread, and what it will start, the priority of a plan."""
    if TASKS.is_dir():
        _lower(0, PLANNING_NICE)


def _lower(thread: int, steps: int) -> None:
    """So many steps of niceness below the main thread; 0: the calling thread."""
    nice = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + steps, NICE_MAX)
    os.setpriority(os.PRIO_PROCESS, thread, nice)
