"""Objects whose arrays stand in shared memory: written once, read by many processes without a copy."""

from __future__ import annotations

import pickle
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, NamedTuple

ALIGNMENT = 64
FOLDER = Path("/dev/shm")


class Parcel(NamedTuple):
    """An object in shared memory: the name of the memory, its pickle without arrays, where each array stands."""

    name: str
    pickled: bytes
    spans: list[tuple[int, int]]


@contextmanager
def shared(value: object) -> Iterator[Parcel]:
    """Copy an object's arrays into new shared memory, which is gone afterwards. OSError if there is not enough.

    A signal may end this while the memory is made, when nobody but its name knows of it.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    spans, size = [], 0
    for buffer in buffers:
        begin = -(-size // ALIGNMENT) * ALIGNMENT
        size = begin + buffer.raw().nbytes
        spans.append((begin, size))
    _check_room(size)
    name, memory = f"walras-{secrets.token_hex(8)}", None
    try:
        memory = SharedMemory(name, create=True, size=max(size, 1))
        for (begin, end), buffer in zip(spans, buffers, strict=True):
            _bytes_of(memory)[begin:end] = buffer.raw()
        yield Parcel(memory.name, pickled, spans)
    finally:
        _remove(name, memory)


def _remove(name: str, memory: SharedMemory | None) -> None:
    try:
        memory = memory or SharedMemory(name)
    except FileNotFoundError:
        return
    except ValueError:  # it was made and has no size yet
        (FOLDER / name).unlink(missing_ok=True)
        return
    memory.unlink()
    memory.close()


def _bytes_of(memory: SharedMemory) -> memoryview:
    view = memory.buf
    assert view is not None, "read before it is closed"
    return view


def _check_room(size: int) -> None:
    """Memory beyond what the folder holds is granted, and kills whoever writes to it."""
    if FOLDER.is_dir():
        free = shutil.disk_usage(FOLDER).free
        if size > free:
            raise OSError(f"{FOLDER}: {size:,} bytes of shared memory needed, {free:,} free")


class Opened:
    """An object whose arrays are those in shared memory; nobody may keep one when it is closed."""

    def __init__(self, parcel: Parcel) -> None:
        self.name = parcel.name
        self._memory = SharedMemory(parcel.name)
        views = [_bytes_of(self._memory)[begin:end] for begin, end in parcel.spans]
        self.value: Any = pickle.loads(parcel.pickled, buffers=views)

    def close(self) -> None:
        """Let go of the memory."""
        self.value = None
        self._memory.close()
