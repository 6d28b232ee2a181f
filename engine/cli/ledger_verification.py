"""The work of `walras ledger verify`."""

from __future__ import annotations

from pathlib import Path

from engine.cli.amounts import exact_usd
from engine.cli.exit_codes import ExitCode
from engine.cli.screen import answers, print_json, remarks
from engine.cli.text_table import pair_table
from engine.journal import CorruptJournal
from engine.service.ledger_verify import LedgerReport, verify_ledger
from engine.service.options import ServerOptions

GROUPS = ("tenants/", "escrows/", "suppliers/", "network-fee", "burn", "make-whole", "outside/", "dev-credits/")


def verify_books(data_dir: Path | None, as_json: bool) -> ExitCode:
    """Recompute the books and say what holds; NO, with every violation, if anything does not."""
    place = data_dir if data_dir is not None else ServerOptions().data_dir
    try:
        with remarks().status(f"verifying {place}"):
            report = verify_ledger(place)
    except CorruptJournal as error:
        remarks().print(f"{place} does not hold: {error.message}", soft_wrap=True)
        return ExitCode.NO
    for fault in report.faults:
        remarks().print(str(fault), soft_wrap=True)
    if as_json:
        print_json(_json(report))
    elif not report.faults:
        answers().print(pair_table(f"the books of {place} hold", _rows(report)))
    if report.faults:
        remarks().print(f"the books of {place} do not hold: {len(report.faults):,} violations", soft_wrap=True)
        return ExitCode.NO
    return ExitCode.DONE


def _rows(report: LedgerReport) -> list[tuple[str, str]]:
    counted = [
        ("events", f"{report.events:,}"),
        ("entries", f"{report.entries:,}"),
        ("leases", f"{report.leases:,}, of which {report.leases_running:,} run"),
        ("leases from before the ledger", f"{report.leases_unbooked:,}"),
    ]
    flows = [
        (f"{kind.lower().replace('_', ' ')}s", exact_usd(amount)) for kind, amount in sorted(report.flows.items())
    ]
    return (
        counted
        + flows
        + [(f"= {group.rstrip('/')}", exact_usd(amount)) for group, amount in _sums(report).items()]
    )


def _json(report: LedgerReport) -> dict[str, object]:
    return {
        "holds": not report.faults,
        "events": report.events,
        "entries": report.entries,
        "leases": report.leases,
        "leases_running": report.leases_running,
        "leases_unbooked": report.leases_unbooked,
        "flows_micro_usd": dict(report.flows),
        "balances_micro_usd": _sums(report),
        "violations": [fault._asdict() for fault in report.faults],
    }


def _sums(report: LedgerReport) -> dict[str, int]:
    """Balances by group; they sum to zero."""
    return {
        group: sum(amount for account, amount in report.balances.items() if account.startswith(group))
        for group in GROUPS
    }
