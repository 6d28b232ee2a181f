"""Reading raw fields one by one: a value that is right, or a violation that says what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Any

from engine.domain.errors import Violation
from engine.domain.limits import MAX_LIST_LENGTH, MAX_TEXT_LENGTH


class FieldReader:
    """Reads one field at a time, collecting violations instead of raising."""

    def __init__(self, raw: Mapping[str, Any], prefix: str) -> None:
        self.raw, self.prefix = raw, prefix
        self.violations: list[Violation] = []
        self._unreadable: set[str] = set()

    def wrong(self, name: str, description: str) -> None:
        """Note a violation of a field."""
        self.violations.append(Violation(self.prefix + name, description))
        self._unreadable.add(name.partition("[")[0])

    def readable(self, *names: str) -> bool:
        """Whether nothing was wrong with these fields themselves, so that they can be compared."""
        return self._unreadable.isdisjoint(names)

    def reject_unknown_fields(self, known: Collection[str]) -> None:
        """Note every field that is not known."""
        for name in sorted(set(self.raw) - set(known)):
            self.wrong(name, "is not a field of a cluster request")

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number within limits, None if absent or wrong; likewise below."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(name, f"must be an integer, got {type(value).__name__}")
        elif not low <= value <= high:
            self.wrong(name, f"must be between {low:,} and {high:,}, got {value}")
        else:
            return value
        return None

    def real(self, name: str, low: float, high: float) -> float | None:
        """A finite number within limits."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(name, f"must be a number, got {type(value).__name__}")
        elif not math.isfinite(value) or not low <= value <= high:
            self.wrong(name, f"must be between {low:,} and {high:,}, got {value}")
        else:
            return float(value)
        return None

    def flag(self, name: str) -> bool:
        """True or false; false if absent."""
        value = self.raw.get(name)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, f"must be true or false, got {type(value).__name__}")
        return value is True

    def text(self, name: str) -> str | None:
        """A tidy text."""
        value = self.raw.get(name)
        if value is None:
            return None
        if problem := text_problem(value):
            self.wrong(name, problem)
            return None
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of tidy texts, sorted and without duplicates."""
        value = self.raw.get(name)
        if value is None:
            return ()
        if isinstance(value, str) or not hasattr(value, "__len__"):
            self.wrong(name, "must be a list of texts")
            return ()
        if len(value) > MAX_LIST_LENGTH:
            self.wrong(name, f"has {len(value)} entries, at most {MAX_LIST_LENGTH} are allowed")
            return ()
        problems = {index: problem for index, item in enumerate(value) if (problem := text_problem(item))}
        for index, problem in problems.items():
            self.wrong(f"{name}[{index}]", problem)
        return () if problems else tuple(sorted(set(value)))

    def grade(self, name: str, grades: type[IntEnum]) -> IntEnum | None:
        """A step of a ladder, by its name."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, str) and value in grades.__members__:
            return grades[value]
        self.wrong(name, f"must be one of {', '.join(grades.__members__)}, got {str(value)[:40]!r}")
        return None


def text_problem(value: object) -> str | None:
    """What is wrong with a text field, or None."""
    if not isinstance(value, str):
        return f"must be text, got {type(value).__name__}"
    if not 1 <= len(value) <= MAX_TEXT_LENGTH:
        return f"must have 1 to {MAX_TEXT_LENGTH} characters, got {len(value)}"
    if not value.isprintable() or value != value.strip():
        return "must be printable, without surrounding spaces"
    return None
