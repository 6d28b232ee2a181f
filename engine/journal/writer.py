"""The one thread that writes, and the queue in front of it.

Group commit: the thread takes everything that waits, appends it in one transaction, syncs once, and tells
everybody. Under load the batches of one sync grow and the sync's cost per event falls.

A commit that takes too long is waited for, but callers are not kept waiting with it: see `refuse_stalled`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from sqlalchemy.exc import DBAPIError

from engine.domain.errors import InvalidInput, Overloaded, Unavailable, Violation
from engine.journal.chain import Head, extend
from engine.journal.durability import Durability
from engine.journal.pen import Pen

_INT64_MAX = 2**63 - 1
_RETRY_AFTER_S_MIN = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on memory and delay, each at least 1. A batch counts as waiting until it is durable.

    waiting_batches_max, waiting_bytes_max: beyond either, `append` raises `Overloaded`; a batch alone may
    exceed the bytes. group_bytes_max: a transaction takes no further batch beyond it. event_bytes_max: a
    larger event is `InvalidInput` (SQLite holds at most 10^9 bytes a row). stall_s: a commit that takes longer
    stalls the journal, which is `Unavailable` until it is done.
    """

    waiting_batches_max: int = 4096
    waiting_bytes_max: int = 256 << 20
    group_bytes_max: int = 4 << 20
    event_bytes_max: int = 256 << 20
    stall_s: int = 5

    def __post_init__(self) -> None:
        low = [field.name for field in fields(self) if getattr(self, field.name) < 1]
        if low:
            raise InvalidInput(Violation(name, "must be at least 1") for name in low)


class _Batch(NamedTuple):
    events: tuple[bytes, ...]
    recorded_at_us: int
    size_bytes: int


class Writer:
    """Numbers batches as they come, makes them durable in that order."""

    def __init__(self, pen: Pen, durability: Durability, limits: Limits) -> None:
        """`pen` belongs to the writer from now on, which closes it in `close`."""
        self._pen = pen
        self._durability = durability
        self._limits = limits
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._submitting = threading.Lock()
        self._closing = False
        self._gathered: list[_Batch] | None = None
        self._committing_since_s: float | None = None
        self._last_commit_s = 0.0
        # Written under `_submitting`; the `durable` twins only by the thread. Waiting is the difference.
        self.appended_sequence = durability.head.sequence
        self._appended_batches = self._durable_batches = 0
        self._appended_bytes = self._durable_bytes = 0
        self._thread = threading.Thread(target=self._run, name="walras-journal", daemon=True)
        self._thread.start()

    def submit(self, events: Sequence[bytes], recorded_at_us: int) -> int:
        """Number one batch and hand it to the thread; return the last sequence so far. Never blocks on I/O."""
        self._check(events, recorded_at_us)
        batch = _Batch(tuple(events), recorded_at_us, sum(map(len, events)))
        with self._submitting:
            if self._durability.failure is not None or self._closing:
                raise Unavailable(self._durability.failure or "the journal is closed")
            if self.is_stalled:
                raise self._stalled()
            if batch.events:
                self._admit(batch)
            return self.appended_sequence

    @contextmanager
    def gather(self) -> Iterator[None]:
        """What is submitted inside, by whomever, is numbered at once and handed to the thread in the end: fewer
        transactions, and the thread does not ask for the interpreter in between. Not nested."""
        with self._submitting:
            assert self._gathered is None
            self._gathered = []
        try:
            yield
        finally:
            with self._submitting:
                gathered, self._gathered = self._gathered, None
                for batch in gathered or ():
                    self._queue.put(batch)

    @property
    def is_stalled(self) -> bool:
        """Whether the commit under way takes longer than `stall_s`."""
        since_s = self._committing_since_s
        return since_s is not None and time.perf_counter() - since_s > self._limits.stall_s

    def refuse_stalled(self) -> None:
        """If a commit takes too long, tell all who wait that its outcome is unknown; it goes on meanwhile."""
        if self.is_stalled:
            self._durability.refuse_waiters(self._stalled())

    def _stalled(self) -> Unavailable:
        said = self._pen.trouble or "the commit is not confirmed"
        return Unavailable(f"nothing became durable for {self._limits.stall_s} s: {said}")

    def close(self, timeout_s: float | None = None) -> bool:
        """Make everything submitted durable, then stop; whether that came to an end. Can be called again."""
        with self._submitting:
            if not self._closing:
                self._closing = True
                self._queue.put(None)
                self._pen.give_up_when_in_trouble()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _check(self, events: Sequence[bytes], recorded_at_us: int) -> None:
        violations = [
            Violation(f"events[{index}]", f"must be bytes, at most {self._limits.event_bytes_max} of them")
            for index, event in enumerate(events)
            if type(event) is not bytes or len(event) > self._limits.event_bytes_max
        ]
        if not 0 <= recorded_at_us <= _INT64_MAX:
            violations.append(Violation("recorded_at_us", "must be a non-negative 64-bit integer"))
        if violations:
            raise InvalidInput(violations)

    def _admit(self, batch: _Batch) -> None:
        waiting_batches = self._appended_batches - self._durable_batches
        waiting_bytes = self._appended_bytes - self._durable_bytes
        if waiting_batches and (
            waiting_batches >= self._limits.waiting_batches_max
            or waiting_bytes + batch.size_bytes > self._limits.waiting_bytes_max
        ):
            # The next commit takes most of what waits, so its likely duration is when to come back.
            raise Overloaded(
                f"{waiting_batches} batches wait for the disk", max(self._last_commit_s, _RETRY_AFTER_S_MIN)
            )
        self._appended_batches += 1
        self._appended_bytes += batch.size_bytes
        self.appended_sequence += len(batch.events)
        if self._gathered is None:
            self._queue.put(batch)
        else:
            self._gathered.append(batch)

    def _run(self) -> None:
        with self._pen:
            self._durability.end(self._write())

    def _write(self) -> str:
        """Commit group after group; return why that ended."""
        try:
            for group in self._groups():
                self._commit(group)
        except Exception as error:  # whatever it is, nothing may be acknowledged after it
            return f"the journal stopped: {error.orig if isinstance(error, DBAPIError) else error}"
        return "the journal is closed"

    def _groups(self) -> Iterator[list[_Batch]]:
        """All that waits, up to `group_bytes_max`, again and again until `close`."""
        while (batch := self._queue.get()) is not None:
            group, size_bytes = [batch], batch.size_bytes
            while size_bytes < self._limits.group_bytes_max and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    yield group
                    return
                group.append(following)
                size_bytes += following.size_bytes
            yield group

    def _commit(self, group: list[_Batch]) -> None:
        started_s = self._committing_since_s = time.perf_counter()
        old = self._durability.head
        new, rows = _chained(old, group)
        self._pen.append(old, new, rows)
        self._committing_since_s = None
        self._last_commit_s = time.perf_counter() - started_s
        self._durable_batches += len(group)
        self._durable_bytes += sum(batch.size_bytes for batch in group)
        self._durability.advance(new)


def _chained(head: Head, group: list[_Batch]) -> tuple[Head, list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for events, recorded_at_us, _ in group:
        for payload in events:
            head = extend(head, recorded_at_us, payload)
            rows.append(
                {
                    "sequence": head.sequence,
                    "recorded_at_us": recorded_at_us,
                    "hash": head.hash,
                    "payload": payload,
                }
            )
    return head, rows
