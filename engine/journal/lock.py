"""One process at a time: an exclusive `flock` that the kernel drops when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from engine.domain.errors import Unavailable


class ProcessLock:
    """Held from construction to `release`. The file holds the holder's process id, for people to read."""

    def __init__(self, file: Path) -> None:
        """Take the lock; raise `Unavailable` at once if another holds it (also within this process)."""
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise Unavailable(f"{file.parent} is in use by another engine (process {holder})") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    @property
    def is_held(self) -> bool:
        """The kernel takes it from nobody."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Let others in. The file stays: removing it would let two holders lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
