"""The one error that only a journal can have."""

from __future__ import annotations

from engine.domain.errors import WalrasError


class CorruptJournal(WalrasError):
    """What was stored is not what is there. Entries before `first_bad_sequence` are proven good."""

    reason = "CORRUPT_JOURNAL"

    def __init__(self, first_bad_sequence: int, description: str) -> None:
        self.first_bad_sequence = first_bad_sequence
        super().__init__(
            f"the journal is corrupt at sequence {first_bad_sequence}: {description}",
            first_bad_sequence=str(first_bad_sequence),
        )
