"""Pricing in a process of its own, at a low priority: it takes no turn of the interpreter that calls wait for.

It is a child that reads what was seen from its standard input and answers on its output; it ends when its input
does, so whenever the engine does. It keeps nothing that matters: one that is lost is started anew. A message is
the number of its pieces, and each as (length, bytes); arrays are pieces of their own, so that nothing copies
megabytes while it has the interpreter.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import IO

from engine.domain.errors import Unavailable
from engine.market.events import PricesPublished, decode, encode
from engine.service.pricing import Seen, priced

NICENESS = 10
LENGTH_BYTES = 8


class PricingProcess:
    """The engine's end. One call at a time; the process starts with the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, seen: Seen) -> PricesPublished | None:
        """As `priced`. Unavailable if the process ended; the next call starts another."""
        if self._process is None:
            command = [sys.executable, "-P", "-m", __name__]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            arrays: list[pickle.PickleBuffer] = []
            rest = pickle.dumps(seen, protocol=5, buffer_callback=arrays.append)
            _write(self._process.stdin, rest, *(array.raw() for array in arrays))
            (reply,) = _read(self._process.stdout)
        except (OSError, EOFError) as error:
            self.close()
            raise Unavailable("the process that prices has ended") from error
        if not reply:
            return None
        event = decode(reply)
        assert isinstance(event, PricesPublished)
        return event

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Price whatever comes until nothing does."""
    while True:
        try:
            rest, *arrays = _read(requests)
            seen: Seen = pickle.loads(rest, buffers=arrays)
        except EOFError:
            return
        event = priced(seen)
        _write(replies, b"" if event is None else encode(event))


def _write(stream: IO[bytes], *pieces: bytes | memoryview) -> None:
    stream.write(len(pieces).to_bytes(LENGTH_BYTES))
    for piece in pieces:
        stream.write(len(piece).to_bytes(LENGTH_BYTES))
        stream.write(piece)
    stream.flush()


def _read(stream: IO[bytes]) -> list[bytes]:
    """EOFError if the other end is gone."""
    return [_exactly(stream, _number(stream)) for _ in range(_number(stream))]


def _number(stream: IO[bytes]) -> int:
    return int.from_bytes(_exactly(stream, LENGTH_BYTES))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


if __name__ == "__main__":
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
