"""Options that may stand without a value, which typer does not know: `--real` alone means `--real=`."""

from __future__ import annotations

from itertools import pairwise

BARE_OPTIONS = frozenset({"--real", "--hold"})


def with_bare_values(arguments: list[str]) -> list[str]:
    """The arguments with an empty value after each bare option that the next option or the end follows."""
    return [
        f"{argument}=" if argument in BARE_OPTIONS and after.startswith("-") else argument
        for argument, after in pairwise([*arguments, "--"])
    ]
