"""The work of `walras plan check`."""

from __future__ import annotations

from pathlib import Path

from engine.cli.amounts import usd
from engine.cli.exit_codes import ExitCode
from engine.cli.screen import answers, remarks
from engine.cli.text_table import pair_table
from engine.planning.certificate import Certificate, check_plan


def check_directory(directory: Path) -> ExitCode:
    """Recompute a plan and say what holds; NO, with every fault on stderr, if anything does not."""
    console = remarks()
    with console.status(f"checking {directory}"):
        certificate = check_plan(directory)
    if not certificate.holds:
        console.print(f"{directory} does not hold:")
        for fault in certificate.faults:
            console.print(f"  {fault.code}: {fault.sentence}", soft_wrap=True)
        return ExitCode.NO
    answers().print(pair_table(f"{directory} holds", _rows(certificate)))
    return ExitCode.DONE


def _rows(certificate: Certificate) -> list[tuple[str, str]]:
    rows = [
        ("welfare", f"{usd(certificate.welfare_micro_usd_per_hour)} an hour"),
        ("bound that the prices prove", f"{usd(round(certificate.dual_micro_usd_per_hour))} an hour"),
    ]
    if (claim := certificate.claimed) is not None:
        method = claim.method or "a method without a name"
        bound = f"{usd(claim.bound_micro_usd_per_hour)} an hour, by {method}"
        rows.append(("stronger bound", f"{bound}: not checked, prices cannot prove it"))
        if claim.is_optimum:
            rows.append(("OPTIMAL", "rests on the stronger bound alone: not checked either"))
    return rows
