"""Ranges of numeric options: what a message could not hold is refused by the option's name, before any call.

Within them the engine decides, whose rules are narrower.
"""

from __future__ import annotations

from typing import Any

import typer

from engine.domain.limits import MAX_DURATION_S

INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
MAX_HOURS = MAX_DURATION_S / 3_600


def whole(text: str, *names: str, most: int = INT64_MAX, **more: Any) -> typer.models.OptionInfo:
    """A whole number that is not negative. Help shows no range: the largest says nothing to people."""
    return _up_to(most, f"{most:,}", text, names, more)


def hours_of(text: str, *names: str, **more: Any) -> typer.models.OptionInfo:
    """A time of ten years at most."""
    return _up_to(MAX_HOURS, f"{MAX_HOURS:,.0f}", text, names, more)


def _up_to(
    most: float, shown: str, text: str, names: tuple[str, ...], more: dict[str, Any]
) -> typer.models.OptionInfo:
    def check(value: float | None) -> float | None:
        if value is not None and not 0 <= value <= most:
            raise typer.BadParameter(f"must be between 0 and {shown}, got {str(value)[:40]}")
        return value

    option: typer.models.OptionInfo = typer.Option(*names, help=text, callback=check, **more)
    return option
