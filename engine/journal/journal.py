"""The journal as its users see it: open, append, await, replay, close."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.domain.errors import Unavailable
from engine.journal import reader
from engine.journal.chain import Entry, Head
from engine.journal.claims import Claim, claim_of
from engine.journal.database import Database, database_errors
from engine.journal.durability import Durability
from engine.journal.leadership import LEASE_S, Leadership
from engine.journal.pen import Pen
from engine.journal.places import Place, database_at
from engine.journal.writer import Limits, Writer

CLOSE_TIMEOUT_S = 5.0


class Receipt:
    """A promise that one batch becomes durable: `await receipt`, or `receipt.result()` in a thread."""

    __slots__ = ("_durability", "sequence")

    def __init__(self, sequence: int, durability: Durability) -> None:
        self.sequence = sequence
        self._durability = durability

    def __await__(self) -> Generator[object, None, int]:
        """The batch's last sequence, once durable; `Unavailable` if that will never be known."""
        return self._durability.reached(self.sequence).__await__()

    def result(self, timeout_s: float | None = None) -> int:
        """The same, blocking; `TimeoutError` after `timeout_s`."""
        return self._durability.reached_blocking(self.sequence, timeout_s)


class Journal:
    """One open journal, of which this process is the only writer. Safe to use from any thread."""

    def __init__(self, database: Database, claim: Claim, epoch: int, head: Head, limits: Limits) -> None:
        """For `open` and `open_url`. `claim` is the journal's from now on if nothing is raised."""
        self.database, self._claim, self.epoch = database, claim, epoch
        with database_errors(database):
            pen = Pen(database, epoch)
        self._durability = Durability(head)
        self._writer = Writer(pen, self._durability, limits)

    @classmethod
    def open(cls, data_dir: Path, limits: Limits | None = None) -> Self:
        """Open the embedded journal in `data_dir`, made if absent. Errors as in `open_url`."""
        return cls.open_at(data_dir, limits)

    @classmethod
    def open_url(cls, url: str, limits: Limits | None = None) -> Self:
        """Open or create the journal that a URL names (see `Place`).

        `Unavailable`: another engine has it, or the disk fails. `NotLeader`: the same of a shared database.
        `InvalidInput`: no journal, or not of this version. `CorruptJournal`: the head is damaged (only `replay`
        and `verify` prove the whole chain).
        """
        return cls.open_at(url, limits)

    @classmethod
    def open_at(
        cls, place: Place, limits: Limits | None = None, address: str = "", lease_s: float = LEASE_S
    ) -> Self:
        """Either. `address`, `lease_s`: what followers in a shared database are told, and for how long."""
        database = database_at(place)
        claim = claim_of(database, address, lease_s)
        try:
            return cls(database, claim, claim.epoch, claim.head, limits or Limits())
        except BaseException:
            claim.release()
            raise

    def append(self, events: Sequence[bytes], recorded_at_us: int) -> Receipt:
        """Enqueue one batch, whole or not at all, after all that were appended before.

        Returns at once. No events: a receipt for everything appended so far. Raises `Overloaded`,
        `Unavailable` or `InvalidInput`, and then nothing was enqueued.
        """
        if not self._claim.is_held:
            raise Unavailable(self.failure or "this engine cannot be sure that it still is the only writer")
        return Receipt(self._writer.submit(events, recorded_at_us), self._durability)

    def gathering(self) -> AbstractContextManager[None]:
        """Inside, batches are taken as ever and begin to be written in the end, together. Do not wait inside."""
        return self._writer.gather()

    async def wait_durable(self, sequence: int) -> int:
        """Return once `sequence` is durable, at once if it is; `Unavailable` if that will never be known."""
        return await self._durability.reached(sequence)

    def refuse_stalled(self) -> None:
        """If a commit takes too long, tell all who wait that its outcome is unknown. To be called now and then."""
        self._writer.refuse_stalled()

    @property
    def durable_sequence(self) -> int:
        """The last sequence that is safe on disk."""
        return self._durability.head.sequence

    @property
    def appended_sequence(self) -> int:
        """The last sequence given out, durable or not."""
        return self._writer.appended_sequence

    @property
    def head(self) -> Head:
        """Sequence and hash of the last durable entry."""
        return self._durability.head

    @property
    def failure(self) -> str | None:
        """Why nothing can become durable any more; None while the journal works."""
        return self._durability.failure

    @property
    def is_deposed(self) -> bool:
        """Whether another has become the writer."""
        return isinstance(self._claim, Leadership) and self._claim.is_lost

    def replay(self, after_sequence: int = 0) -> Generator[Entry]:
        """Durable entries after a sequence, each proven as it is read; raises `CorruptJournal`."""
        return reader.replay(self.database, after_sequence)

    entries_after = replay

    def close(self) -> None:
        """Make durable what was appended, stop the writer, let other processes in. Can be called again.

        A commit that waits for a standby for longer than CLOSE_TIMEOUT_S is left to the database, and so is the
        lease, which then runs out.
        """
        if self._writer.close(CLOSE_TIMEOUT_S if self.database.is_shared else None):
            self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
