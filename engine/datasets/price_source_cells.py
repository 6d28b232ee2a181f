"""Cells of a price list: text or JSON values in, numbers out; what cannot be used is listed, never guessed.

Nothing here raises: a bad cell is noted in `RowFaults` and read as None, so that one pass lists every bad cell of
a file. Rows are counted from 0, the header not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine.domain.errors import Violation

Row = Mapping[str, Any]
MAX_SHOWN = 60


@dataclass(slots=True)
class RowFaults:
    """What is wrong with the rows of one file, as it is found."""

    shown_file: str
    found: list[Violation] = field(default_factory=list)

    def note(self, row: int, column: str, value: Any, description: str) -> None:
        """A bad cell; long values are shown in part."""
        place = f"{self.shown_file} row {row} column {column}"
        self.found.append(Violation(place, f"{repr(value)[:MAX_SHOWN]} {description}"))

    def positive(self, row: int, column: str, value: Any) -> float | None:
        """A finite number above 0, or None and a note."""
        number = _number(value)
        if number is None:
            self.note(row, column, value, "is not a number")
        elif not math.isfinite(number):
            self.note(row, column, value, "is not finite")
        elif number <= 0:
            self.note(row, column, value, "is not positive")
        else:
            return number
        return None

    def text(self, row: int, column: str, value: Any) -> str | None:
        """Text, "" where the cell is empty, or None and a note."""
        if is_empty(value):
            return ""
        if isinstance(value, str):
            return value.strip()
        self.note(row, column, value, "is not text")
        return None

    def flag(self, row: int, column: str, value: Any) -> bool | None:
        """True or false, or None and a note."""
        if isinstance(value, bool):
            return value
        self.note(row, column, value, "is not true or false")
        return None

    def moment_us(self, row: int, column: str, value: Any) -> int | None:
        """Microseconds of an ISO 8601 time, or of a date's start; UTC if it names no zone. Or None and a note."""
        try:
            given = datetime.fromisoformat(value)
            zoned = given if given.tzinfo else given.replace(tzinfo=UTC)
            since = zoned - datetime.fromtimestamp(0, UTC)
        except (TypeError, ValueError, OverflowError):
            self.note(row, column, value, "is not a date or time (ISO 8601)")
            return None
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: absent, null or blank."""
    return value is None or (isinstance(value, str) and not value.strip())


def _number(value: Any) -> float | None:
    """Python reads "1_0" as 10 and True as 1; a price list means neither."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or "_" in str(value)[:MAX_SHOWN]:
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
