"""The audit log as lines for people or machines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from engine.trust.audit_log import FILE_NAME, read_acts


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which acts to show; None: any."""

    account: str | None
    credential: str | None
    object_name: str | None
    method: str | None
    since_us: int

    def fits(self, act: dict[str, Any]) -> bool:
        """Whether an act is to be shown."""
        same = ((self.account, "account"), (self.credential, "credential"), (self.object_name, "object"))
        return (
            all(wanted in (None, act[field]) for wanted, field in same)
            and (self.method is None or self.method in act["method"])
            and act["at_us"] >= self.since_us
        )


def show_acts(data_dir: Path, wanted: Wanted, *, as_json: bool) -> None:
    """Print those of a data directory's log."""
    for act in read_acts(data_dir / FILE_NAME):
        if wanted.fits(act):
            typer.echo(json.dumps(act) if as_json else _line(act))


def _line(act: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(act["at_us"] / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
    who = act["account"] or "nobody"
    left_out = f"  ({act['left_out']} failures before it not listed)" if act["left_out"] else ""
    credential = f"under {act['credential']} " if act["credential"] else ""
    return (
        f"{at}  {who} {credential}from {act['host']}  {act['method']} {act['object']}  {act['outcome']}{left_out}"
    )
