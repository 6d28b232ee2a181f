"""What the exit code of every command means: part of the contract with scripts."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """0 to 3 are the contract's; 130 and 143 are the shell's convention for SIGINT and SIGTERM."""

    DONE = 0
    NO = 1
    """The answer is no; stderr explains it."""
    BAD_INPUT = 2
    """Every violation is listed on stderr."""
    ENGINE_FAILED = 3
    """The engine cannot be reached, or failed."""
    INTERRUPTED = 130
    TERMINATED = 143
