"""The state that a journal gives: the newest snapshot that can be read, and the replay of what came after it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from engine.journal import CorruptJournal, Database, Entry, snapshots
from engine.market.apply import apply
from engine.market.events import AnyEvent, decode
from engine.market.state import MarketState
from engine.market.state_codec import NotAState, restore, state_format

log = logging.getLogger("walras.restore")


@dataclass(slots=True)
class Restored:
    """A state, the time of the last entry in it, and where the replay begins: after this sequence."""

    state: MarketState
    last_us: int = 0
    sequence: int = 0

    def take_in(self, entries: Iterable[Entry]) -> Restored:
        """Apply entries; returns itself."""
        for event, recorded_at_us in events_of(entries):
            apply(self.state, event)
            self.last_us = max(self.last_us, recorded_at_us)
        return self


def newest_snapshot(database: Database) -> Restored:
    """The newest state that can be read; the empty one if there is none."""
    for snapshot in snapshots.readable(database, state_format()):
        try:
            state = restore(snapshot.content)
        except NotAState as error:
            log.warning("the snapshot at %d cannot be read: %s", snapshot.sequence, error)
            continue
        if state.sequence == snapshot.sequence:
            return Restored(state, snapshot.recorded_at_us, snapshot.sequence)
    return Restored(MarketState())


def events_of(entries: Iterable[Entry]) -> Iterator[tuple[AnyEvent, int]]:
    """(event, when it was recorded) of each entry; `CorruptJournal` at one that is none."""
    for entry in entries:
        try:
            event = decode(entry.payload)
        except msgspec.MsgspecError as error:
            raise CorruptJournal(entry.sequence, f"is not an event: {error}") from None
        yield event, entry.recorded_at_us
