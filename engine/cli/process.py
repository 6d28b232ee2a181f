"""This process as others see it: streams whose readers may go, and signals that end it."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Pipe(io.FileIO):
    """A standard stream. What is written after its reader has gone is dropped, and no error."""

    is_read = True

    def write(self, given: ReadableBuffer, /) -> int:
        """All of it is taken, read or not."""
        try:
            return super().write(given)
        except BrokenPipeError:
            self.is_read = False
            return len(memoryview(given).cast("B"))


def is_heard() -> bool:
    """Whether stdout still had a reader when it was last written to: nobody follows what nobody reads."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.is_read if isinstance(raw, Pipe) else True


def check_streams() -> None:
    """InvalidInput if stdout is closed: the next file that is opened would get its number, and the answer."""
    from engine.domain.errors import InvalidInput, Violation

    if sys.stdout is None:
        raise InvalidInput([Violation("stdout", "is closed: there is nowhere to answer; /dev/null would do")])


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let stdout and stderr outlive their readers, so that the exit code is that of the answer: `... | head -1`.

    Streams that somebody put in place of the process's own are left alone; remarks on a closed stderr are lost.
    """
    before = sys.stdout, sys.stderr
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    sys.stdout, sys.stderr = _lasting(sys.stdout, sys.__stdout__), _lasting(sys.stderr, sys.__stderr__)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO, own: TextIO | None) -> TextIO:
    """`stream` is None if it was closed before the process began, whatever its type says."""
    if stream is None or stream is not own:
        return stream
    assert isinstance(stream, io.TextIOWrapper)
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


@contextmanager
def ended_by(*numbers: int) -> Iterator[None]:
    """Let signals that would kill this process on the spot unwind it, so that it cleans up; once, then they rest.

    What ignores a signal already, or handles it by itself later on, goes on to. Only the main thread can do this.
    """

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers if is_main}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            if signal.getsignal(number) in (end, signal.SIG_IGN):
                signal.signal(number, before[number])
