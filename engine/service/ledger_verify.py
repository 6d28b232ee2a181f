"""Proving the books from a journal's files: the checker's verdict on every event, and the books of the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.journal import CorruptJournal, Entry, replay_files
from engine.market.events import AnyEvent, decode
from engine.market.ledger.check import Fault, LedgerCheck
from engine.service.engine import replayed


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What was found. `faults` is empty if everything holds; `balances` by account, `flows` by kind of entry."""

    events: int
    entries: int
    leases: int
    leases_running: int
    leases_unbooked: int
    balances: Mapping[str, int]
    flows: Mapping[str, int]
    faults: tuple[Fault, ...]


def verify_ledger(data_dir: Path) -> LedgerReport:
    """Recompute the books from the journal; CorruptJournal or InvalidInput if it cannot be read. Read-only.

    Events that do not hold need not make a state; so the engine's own replay comes only after the checker's.
    """
    check = LedgerCheck()
    for entry in replay_files(data_dir):
        check.follow(entry.sequence, _decoded(entry))
    faults = check.finish()
    if not faults:
        state, _ = replayed(replay_files(data_dir))
        faults = list(_differences(check.sequence, check.balances, state.books.balances))
    return LedgerReport(
        events=check.sequence,
        entries=check.entries,
        leases=check.leases,
        leases_running=len(check.running),
        leases_unbooked=check.unbooked,
        balances={account: balance for account, balance in check.balances.items() if balance},
        flows=dict(check.flows),
        faults=tuple(faults),
    )


def _decoded(entry: Entry) -> AnyEvent:
    try:
        return decode(entry.payload)
    except msgspec.MsgspecError as error:
        raise CorruptJournal(entry.sequence, f"is not an event: {error}") from None


def _differences(events: int, checked: Mapping[str, int], kept: Mapping[str, int]) -> Iterator[Fault]:
    """Accounts whose balance in the engine's books is another than the checker's."""
    for account in sorted(checked.keys() | kept.keys()):
        if checked.get(account, 0) != kept.get(account, 0):
            detail = (
                f"{account} stands at {kept.get(account, 0)} in the books, by its entries at {checked[account]}"
            )
            yield Fault(events, "BOOKS", detail)
