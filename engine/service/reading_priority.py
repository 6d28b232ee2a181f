"""Threads that read the network give way to the one that decides, where they want the same core.

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
READING_NICE = 10
"""A ninth of the weight of a thread that decides (Linux, sched(7))."""
TASKS = Path("/proc/self/task")
NICE_MAX = 19


def yield_to_decisions() -> int:
    """Lower the priority of this process's readers below the caller's; how many there are, 0 if the system does
    not name threads."""
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + READING_NICE, NICE_MAX)
    lowered = 0
    for task in TASKS.iterdir() if TASKS.is_dir() else ():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if (task / "comm").read_text().strip() in READERS:
                os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
                lowered += 1
    return lowered
