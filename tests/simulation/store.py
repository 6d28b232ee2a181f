"""The store: a database that keeps what was committed and nothing else, and does not always say what it did.

It is an SQLite database in memory, reached through SQLAlchemy by the journal's real statements. A transaction
takes its time before it begins and after it is over, and happens at one instant in between: so whatever a crash, a
pause or another writer does comes before or after it. What a real database does within one is not simulated.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from weakref import ref

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from engine.domain.errors import Unavailable, WalrasError
from engine.journal.chain import Entry
from engine.journal.errors import CorruptJournal
from engine.journal.sqlite import SqliteDatabase
from tests.simulation.kernel import START_US, Kernel, Process
from tests.simulation.system import World, here, sleep_us

CLEAN, LOST, KEPT, CRASH_BEFORE, CRASH_AFTER = "clean", "lost", "kept", "crash before", "crash after"
"""What becomes of a commit: it happens; fails; fails, but has happened; the process dies before it, or after."""


class Disk:
    """The durable bytes, and the trouble set up for those who write them. `writes`: whose transaction runs."""

    def __init__(self, kernel: Kernel, image: bytes | None, crash: Callable[[Process], None]) -> None:
        """`image`: of another disk. `crash`: ends a process."""
        self.kernel, self._crash = kernel, crash
        self.raw = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        if image is not None:
            self.raw.deserialize(image)
        self.raw.create_function("simulated_now_us", 0, _simulated_now_us)
        self.fates: list[str] = []
        """Of the next commits that add entries, the last of them first."""
        self.latency_ticks = (1, 5)
        self.is_down, self._laid_out = False, image is not None
        self.writes: Link | None = None
        self.injected: Counter[str] = Counter()
        self.sequence, self.epoch = self._head() if image is not None else (0, 0)
        self.took_entries: Callable[[list[Entry], Process], None] = lambda entries, process: None

    def image(self) -> bytes:
        return bytes(self.raw.serialize())

    def _is_laid_out(self) -> bool:
        """Whether there is a journal; once there is, there always is."""
        self._laid_out = self._laid_out or _has_head(self.raw)
        return self._laid_out

    def _head(self) -> tuple[int, int]:
        row = self.raw.execute("SELECT sequence, epoch FROM journal_head").fetchone()
        return row[0], row[1]

    def entries_after(self, sequence: int) -> list[Entry]:
        """What is durable, read past the code of the engine."""
        wanted = "SELECT sequence, recorded_at_us, payload FROM journal_entry WHERE sequence > ? ORDER BY sequence"
        return [Entry(*row) for row in self.raw.execute(wanted, (sequence,))]

    def head_hash(self) -> str:
        return str(self.raw.execute("SELECT hex(hash) FROM journal_head").fetchone()[0])

    def begin(self, connection: Connection) -> None:
        """Wait for the turn of a transaction that writes."""
        process = here().process
        sleep_us(self.kernel.ticks_us(*self.latency_ticks))
        if self.is_down:
            self.injected["database away"] += 1
            raise OperationalError("BEGIN", None, sqlite3.OperationalError("the database is away"))
        assert process.is_alive

    def commit(self) -> None:
        """End a transaction that writes, one way or another."""
        if not self.raw.in_transaction:
            return
        process, before = here().process, self.sequence
        sequence, epoch = self._head() if self._is_laid_out() else (0, 0)
        fate = self.fates.pop() if sequence > before and self.fates else CLEAN
        if fate != CLEAN:
            self.injected[f"commit: {fate}"] += 1
        self.raw.execute("ROLLBACK" if fate in (LOST, CRASH_BEFORE) else "COMMIT")
        if fate in (CLEAN, KEPT, CRASH_AFTER):
            self._note(process, sequence, epoch)
        if fate in (CRASH_BEFORE, CRASH_AFTER):
            self._crash(process)
            here().park()
        if fate in (LOST, KEPT):
            raise sqlite3.OperationalError("disk I/O error")
        sleep_us(self.kernel.ticks_us(0, 2))

    def _note(self, process: Process, sequence: int, epoch: int) -> None:
        if epoch > self.epoch:
            self.epoch = process.epoch = epoch
        if sequence > self.sequence:
            entries, self.sequence = self.entries_after(self.sequence), sequence
            if process.epoch != self.epoch:
                self.kernel.fault("4", f"{process.name} of epoch {process.epoch} wrote in epoch {self.epoch}")
            self.took_entries(entries, process)

    def rollback(self) -> None:
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")


def _simulated_now_us() -> int:
    """Names no disk: what SQLite holds the garbage collector does not see, and would keep its whole life."""
    return START_US + World.kernel.now_us


def _has_head(raw: sqlite3.Connection) -> bool:
    return raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'journal_head'").fetchone() is not None


class Link:
    """A connection to the disk of now, as the driver would give it.

    The pool keeps those of killed processes for ever; so they must not keep the disk, and with it a whole life.
    """

    def __init__(self, writes: bool) -> None:
        disk: Disk = World.kernel.disk  # type: ignore[attr-defined]
        self._disk, self._raw, self._writes = ref(disk), disk.raw, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def create_function(self, *_: Any, **__: Any) -> None:
        """What the driver's dialect adds is not needed."""

    def commit(self) -> None:
        disk = self._disk()
        if disk is None or disk.writes is not self:
            return
        if self._writes:
            disk.commit()
        else:
            disk.rollback()

    def rollback(self) -> None:
        """Also called by the pool for connections that nobody has any more, whatever runs just then."""
        disk = self._disk()
        if disk is not None and disk.writes is self:
            disk.rollback()

    def close(self) -> None:
        """The database lives as long as the disk."""


@cache
def _now_us_of_sqlite(statement: str) -> str:
    """PostgreSQL's statements as SQLite takes them."""
    if statement.startswith("SET LOCAL"):
        return "SELECT 1"
    clock = r"\(extract\(epoch from clock_timestamp\(\)\) \* 1000000\)::bigint"
    return re.sub(clock, "simulated_now_us()", statement)


@cache
def _engine(*, writes: bool, is_shared: bool) -> Engine:
    """One for all disks, as it costs much to make and keeps the statements it has compiled.

    `is_shared`: its statements are PostgreSQL's.
    """
    engine = create_engine("sqlite://", poolclass=NullPool, creator=lambda: Link(writes), hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if writes:
            World.kernel.disk.begin(connection)  # type: ignore[attr-defined]
        World.kernel.disk.writes = connection.connection.dbapi_connection  # type: ignore[attr-defined]
        World.kernel.disk.raw.execute("BEGIN")  # type: ignore[attr-defined]

    if is_shared:

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def translate(_c: Any, _k: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> tuple[str, Any]:
            return _now_us_of_sqlite(statement), parameters

    return engine


@dataclass(frozen=True, slots=True)
class EmbeddedDatabase(SqliteDatabase):
    """The simulated disk as the database of one engine."""

    file: Path = field(default=Path("/simulated"))

    def preparing(self) -> Engine:
        return _engine(writes=True, is_shared=False)

    writing = preparing

    def reading(self) -> Engine:
        return _engine(writes=False, is_shared=False)


@dataclass(frozen=True, slots=True)
class SharedDatabase:
    """The simulated disk as a database that several engines reach over the network."""

    name: str = "the simulated database"
    is_shared: bool = True

    def preparing(self) -> Engine:
        return _engine(writes=True, is_shared=True)

    writing = preparing

    def reading(self) -> Engine:
        return _engine(writes=False, is_shared=True)

    def check_there(self) -> None:
        """It is."""

    def begin_layout(self, connection: Connection) -> None:
        """Only one transaction runs at a time."""

    def weakness(self, connection: Connection) -> str:
        """None."""
        return ""

    def translated(self, error: Exception, reading_sequence: int = 1) -> WalrasError:
        if isinstance(error, OperationalError):
            return Unavailable(f"{self.name}: {error.orig}")
        return CorruptJournal(reading_sequence, str(error))
