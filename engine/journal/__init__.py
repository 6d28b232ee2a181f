"""The append-only, hash-chained log of opaque byte events. It knows nothing of the market.

What is promised

- *Two databases, one code path.* SQLite in a data directory, or PostgreSQL behind a URL (`Place`).
- *Acknowledged survives.* A receipt is fulfilled only after the transaction that holds its events has been
  committed and synced (SQLite: WAL, `synchronous=FULL`; PostgreSQL: `synchronous_commit=on`). `kill -9` and a
  power cut lose nothing acknowledged, as far as the disk tells the truth about its cache. A failover to another
  PostgreSQL server loses nothing acknowledged only if that one was a synchronous standby.
- *Order and wholeness.* Events are numbered 1, 2, 3 … in the order of the calls to `append`. The events of
  one call are on disk together or not at all.
- *Damage shows.* Each entry's hash covers the one before it, and the head (last sequence and hash) is kept
  apart and moved in the same transaction: a changed, removed, added or reordered entry, the last one
  included, is found by reading.
- *Fail-stop.* After a failed commit nothing is acknowledged until it is known what became of it: with SQLite
  until the journal is opened again, with PostgreSQL until the head has been read (`engine.journal.pen`).
- *One writer.* A second process that opens the same journal is refused, and each writer has a later epoch: an
  append is conditional on it, so that a writer which was paused and replaced writes nothing (`leadership`).
- *No hang.* A commit that takes too long is told to those who wait, as `Unavailable` with an unknown outcome.

What is not promised

- Events whose receipt was not fulfilled may be there after a crash or a failure, or may not. Only an
  idempotency key inside the events resolves that.
- The chain is no signature: whoever can rewrite the whole file can rewrite the chain. Against that, publish
  `Journal.head` elsewhere.
- A second copy. One disk is one disk; copies are PostgreSQL's part, and `backup`'s.
"""

from engine.journal.backup import back_up, restore_backup
from engine.journal.chain import GENESIS, Entry, Head
from engine.journal.database import Database
from engine.journal.errors import CorruptJournal
from engine.journal.following import Following
from engine.journal.journal import Journal, Receipt
from engine.journal.places import Place
from engine.journal.reader import proven_at, replay_files, verify
from engine.journal.writer import Limits

__all__ = [
    "GENESIS",
    "CorruptJournal",
    "Database",
    "Entry",
    "Following",
    "Head",
    "Journal",
    "Limits",
    "Place",
    "Receipt",
    "back_up",
    "proven_at",
    "replay_files",
    "restore_backup",
    "verify",
]
