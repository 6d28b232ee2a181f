"""A child process for crash tests: appends batches of three for ever and prints what is acknowledged.

usage: appender.py DATA_DIR CONCURRENT_BATCHES [FILE_BYTES_MAX]
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from engine.domain.errors import Unavailable
from engine.journal import Journal

BATCH_EVENTS = 3


def payload(sequence: int) -> bytes:
    """What the child stores at a sequence."""
    return b"event %d " % sequence * 20


def say(line: str) -> None:
    """One line, one system call: a kill cannot tear it, and a trace shows it once."""
    os.write(1, f"{line}\n".encode())


async def append_for_ever(journal: Journal) -> None:
    while True:
        first = journal.appended_sequence + 1
        acknowledged = await journal.append([payload(first + i) for i in range(BATCH_EVENTS)], first)
        say(str(acknowledged))


async def main() -> None:
    with Journal.open(Path(sys.argv[1])) as journal:
        appenders = [asyncio.create_task(append_for_ever(journal)) for _ in range(int(sys.argv[2]))]
        ends = await asyncio.gather(*appenders, return_exceptions=True)
        assert all(isinstance(end, Unavailable) for end in ends), ends
        try:
            journal.append([b"late"], 1)
        except Unavailable as error:
            say(f"unavailable: {error}")


if __name__ == "__main__":
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    asyncio.run(main())
