"""`walras backtest --scenario manipulation`: the price movement that attacks buy, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from engine.backtest.manipulation import SEEDS, Table, run_attacks
from engine.cli.amounts import usd
from engine.cli.screen import answers, print_json
from engine.cli.text_table import text_table
from engine.domain.errors import InvalidInput, Violation

Progress = Callable[[int], AbstractContextManager[Callable[[int], None] | None]]
HEADINGS = ("peak", "mean", "hours moved", "cap", "cost", "gain", "locked")
CENT_MICRO_USD = 10_000


def run_manipulation(
    seeds: int | None, workers: int | None, as_json: bool, progress: Progress, not_for: Mapping[str, object]
) -> None:
    """Play every attack and show the table. InvalidInput for options in `not_for` that were given."""
    given = [name for name, value in not_for.items() if value is not None]
    if given:
        raise InvalidInput([Violation(name, "is not for the scenario manipulation") for name in given])
    count = seeds or SEEDS
    with progress(count) as on_seed:
        table = run_attacks(range(count), workers, on_seed)
    if as_json:
        print_json(table)
    else:
        _show(table, count)


def _show(table: Table, seeds: int) -> None:
    rows = (
        (
            name,
            *(f"{100 * found[share]:+.2f} %" for share in ("peak", "mean")),
            f"{found['hours_moved']:.1f} h",
            f"{100 * found['cap']:+.2f} %",
            *(_whole_cents(found[f"{money}_micro_usd"]) for money in HEADINGS[4:]),
        )
        for name, found in table.items()
    )
    answers().print(text_table(f"attacks on a price: means of {seeds} seeds", ("attack",), HEADINGS, rows))


def _whole_cents(micro_usd: float) -> str:
    return usd(round(micro_usd / CENT_MICRO_USD) * CENT_MICRO_USD)
