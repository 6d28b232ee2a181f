"""The work of `walras journal verify`."""

from __future__ import annotations

from pathlib import Path

from engine.cli.exit_codes import ExitCode
from engine.cli.screen import answers, remarks
from engine.cli.text_table import pair_table
from engine.journal import CorruptJournal
from engine.service.options import ServerOptions
from engine.service.verify import JournalReport, verify_journal


def check_journal(data_dir: Path | None) -> ExitCode:
    """Recompute everything from the journal and say what holds; NO if anything does not."""
    place = data_dir if data_dir is not None else ServerOptions().data_dir
    try:
        with remarks().status(f"verifying {place}"):
            report = verify_journal(place)
    except CorruptJournal as error:
        remarks().print(f"{place} does not hold: {error.message}", soft_wrap=True)
        return ExitCode.NO
    answers().print(pair_table(f"{place} holds", _rows(report)))
    return ExitCode.DONE


def _rows(report: JournalReport) -> list[tuple[str, str]]:
    return [
        ("events", f"{report.events:,}"),
        ("chain hash", report.chain_hash),
        ("state hash", report.state_hash),
        ("active leases", f"{report.leases_active:,}"),
        ("GPUs leased", f"{report.gpus_leased:,}"),
    ]
