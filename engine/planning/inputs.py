"""Reading the files of one planning job: every violation of all of them together, or frames that can be trusted.

The bytes that were read are kept: their hashes and copies in the plan's directory are of exactly what was planned,
even if a file changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.domain import tables
from engine.domain.errors import InvalidInput, Violation
from engine.planning.plan_files_schema import FLEET_FILE, PLACEMENTS_FILE, REQUESTS_FILE, RTT_FILE


@dataclass(frozen=True, slots=True)
class InputPaths:
    """Where the input files are. Without `rtt` nothing is measured, without `placements` nothing runs."""

    fleet: Path
    requests: Path
    rtt: Path | None = None
    placements: Path | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Checked frames with the contract's columns; a file that was not given is an empty frame.

    `contents`: the bytes of each given file, by its name in the contract. `placements_table`: the name by which
    violations call the placements.
    """

    fleet: pl.DataFrame
    requests: pl.DataFrame
    rtt: pl.DataFrame
    placements: pl.DataFrame
    contents: dict[str, bytes]
    placements_table: str = PLACEMENTS_FILE


def read_inputs(paths: InputPaths) -> Inputs:
    """Read and check all files; InvalidInput lists what is wrong with each, and between them."""
    reader = _Reader()
    fleet = reader.table(
        FLEET_FILE, paths.fleet, tables.FLEET_SCHEMA, tables.check_fleet, tables.OPTIONAL_FLEET_COLUMNS
    )
    requests = reader.table(
        REQUESTS_FILE,
        paths.requests,
        tables.REQUESTS_SCHEMA,
        tables.check_requests,
        tables.OPTIONAL_REQUEST_COLUMNS,
    )
    rtt = reader.table(RTT_FILE, paths.rtt, tables.RTT_SCHEMA, tables.check_rtt)
    placements = reader.table(
        PLACEMENTS_FILE,
        paths.placements,
        tables.PLACEMENTS_SCHEMA,
        tables.check_placement_rows,
        tables.OPTIONAL_PLACEMENT_COLUMNS,
    )
    named = paths.placements.name if paths.placements is not None else PLACEMENTS_FILE
    if fleet is not None and requests is not None:
        if rtt is not None:
            reader.attempt(lambda: tables.check_client_sites(requests, fleet, rtt, paths.requests.name))
        if placements is not None:
            reader.attempt(lambda: tables.check_placements(placements, fleet, requests, named))
    if reader.violations or fleet is None or requests is None or rtt is None or placements is None:
        raise InvalidInput(reader.violations)
    return Inputs(fleet, requests, rtt, placements, reader.contents, named)


class _Reader:
    """Reads table after table, collecting violations instead of raising."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.violations: list[Violation] = []

    def attempt(self, step: Callable[[], None]) -> bool:
        """Whether the step found nothing wrong."""
        try:
            step()
        except InvalidInput as error:
            self.violations += error.violations
            return False
        return True

    def table(
        self,
        name: str,
        path: Path | None,
        schema: dict[str, pl.DataType],
        check: Callable[[pl.DataFrame, str], None],
        optional: set[str] = frozenset(),  # type: ignore[assignment]
    ) -> pl.DataFrame | None:
        """A checked table, empty without a path; None if something was wrong with it."""
        if path is None:
            return pl.DataFrame(schema=schema)
        frames: list[pl.DataFrame] = []

        def read() -> None:
            self.contents[name] = tables.read_content(path)
            frame = tables.parse_table(self.contents[name], path.name, schema, optional)
            check(frame, path.name)
            frames.append(frame)

        return frames[0] if self.attempt(read) else None
