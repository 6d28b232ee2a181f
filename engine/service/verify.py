"""Proving a journal from its files: the hash chain, and that its events give a state that adds up."""

from __future__ import annotations

from dataclasses import dataclass

from engine.journal import Place, replay_files, verify
from engine.service.engine import replayed


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What was proven. `state_hash`: SHA-256 of the state that the events give."""

    events: int
    chain_hash: str
    state_hash: str
    leases_active: int
    gpus_leased: int


def verify_journal(place: Place) -> JournalReport:
    """Recompute chain and state; CorruptJournal or InvalidInput if they do not hold. Read-only."""
    head = verify(place)
    state, _ = replayed(replay_files(place))
    return JournalReport(
        events=head.sequence,
        chain_hash=head.hash.hex(),
        state_hash=state.hash(),
        leases_active=state.active,
        gpus_leased=int(state.inventory.leased.sum()),
    )
