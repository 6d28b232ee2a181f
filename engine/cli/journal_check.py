"""The work of `walras journal verify`."""

from __future__ import annotations

from engine.cli.exit_codes import ExitCode
from engine.cli.screen import answers, remarks
from engine.cli.text_table import pair_table
from engine.journal import CorruptJournal, Place
from engine.journal.places import shown
from engine.service.verify import JournalReport, verify_journal


def check_journal(place: Place) -> ExitCode:
    """Recompute everything from the journal and say what holds; NO if anything does not."""
    name = shown(place)
    try:
        with remarks().status(f"verifying {name}"):
            report = verify_journal(place)
    except CorruptJournal as error:
        remarks().print(f"{name} does not hold: {error.message}", soft_wrap=True)
        return ExitCode.NO
    answers().print(pair_table(f"{name} holds", _rows(report)))
    return ExitCode.DONE


def _rows(report: JournalReport) -> list[tuple[str, str]]:
    return [
        ("events", f"{report.events:,}"),
        ("chain hash", report.chain_hash),
        ("state hash", report.state_hash),
        ("snapshots", f"{report.snapshots:,}"),
        ("active leases", f"{report.leases_active:,}"),
        ("GPUs leased", f"{report.gpus_leased:,}"),
    ]
