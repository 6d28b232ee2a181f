"""Proving a journal: its hash chain, that its events give a state that adds up, and that its snapshots do, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.journal import GENESIS, CorruptJournal, Entry, Place, proven_at, snapshots
from engine.journal.places import database_at
from engine.market.state import MarketState
from engine.market.state_codec import NotAState, restore, state_format
from engine.service.restoring import Restored


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What was proven. `state_hash`: SHA-256 of the state that the events give; `snapshots`: of this program."""

    events: int
    chain_hash: str
    state_hash: str
    leases_active: int
    gpus_leased: int
    snapshots: int


def verify_journal(place: Place) -> JournalReport:
    """Recompute chain, state and snapshots; CorruptJournal or InvalidInput if they do not hold. Read-only."""
    proof = _Proof(place)
    proof.restored.take_in(proof.entries())
    state = proof.restored.state
    return JournalReport(
        events=proof.head.sequence,
        chain_hash=proof.head.hash.hex(),
        state_hash=state.hash(),
        leases_active=state.active,
        gpus_leased=int(state.inventory.leased.sum()),
        snapshots=proof.snapshots,
    )


class _Proof:
    """One pass over a journal. The state lags behind the entries by the one that is being applied."""

    def __init__(self, place: Place) -> None:
        self._place, self.head = place, GENESIS
        self.restored, self.snapshots = Restored(MarketState()), 0

    def entries(self) -> Iterator[Entry]:
        """All entries; before the first after a snapshot, and at the end, that snapshot is compared."""
        proven, expected = proven_at(self._place), self._expected()
        for self.head, entry in proven:
            self._compare(expected, entry.sequence - 1)
            yield entry
        self._compare(expected, self.head.sequence)

    def _expected(self) -> dict[int, str]:
        """Hash of the state by sequence, of each snapshot that can be read."""
        found = list(snapshots.readable(database_at(self._place), state_format()))
        try:
            return {each.sequence: restore(each.content).hash() for each in found}
        except NotAState as error:
            raise CorruptJournal(found[0].sequence, f"its snapshots cannot be read: {error}") from None

    def _compare(self, expected: dict[int, str], sequence: int) -> None:
        if sequence not in expected:
            return
        if expected[sequence] != self.restored.state.hash():
            raise CorruptJournal(sequence, "the snapshot of the state after it is another state")
        self.snapshots += 1
