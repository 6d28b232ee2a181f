"""The work of `walras journal backup` and `restore`."""

from __future__ import annotations

from pathlib import Path

from engine.cli.exit_codes import ExitCode
from engine.cli.screen import answers, remarks
from engine.cli.text_table import pair_table
from engine.journal import CorruptJournal, Head, Place, back_up, restore_backup
from engine.journal.places import shown


def copy_to(file: Path, place: Place) -> ExitCode:
    """Copy a journal into a file; NO if it does not hold, and then there is no file."""
    try:
        with remarks().status(f"copying {shown(place)}"):
            head = back_up(place, file)
    except CorruptJournal as error:
        remarks().print(f"{shown(place)} does not hold: {error.message}", soft_wrap=True)
        return ExitCode.NO
    return _said(f"{shown(place)} copied to {file}", head)


def copy_from(file: Path, place: Place) -> ExitCode:
    """Make a journal from a file."""
    with remarks().status(f"restoring {shown(place)}"):
        head = restore_backup(file, place)
    return _said(f"{shown(place)} restored from {file}", head)


def _said(title: str, head: Head) -> ExitCode:
    answers().print(pair_table(title, [("events", f"{head.sequence:,}"), ("chain hash", head.hash.hex())]))
    return ExitCode.DONE
