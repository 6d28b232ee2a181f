"""The one look of all tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

Row = tuple[str, ...]
SHOWN_ROWS = 20


def text_table(title: str, texts: Row, numbers: Row, rows: Iterable[Row]) -> Table:
    """A table with columns of text on the left, then columns of numbers on the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def pair_table(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values, without headings."""
    table = text_table(title, ("", " "), (), rows)
    table.show_header = False
    return table


def shortened(rows: list[Row], shown: int = SHOWN_ROWS) -> list[Row]:
    """At most `shown` rows, the last of which then counts the rest."""
    if len(rows) <= shown:
        return rows
    rest = (f"... and {len(rows) - shown + 1:,} more (--json has all)", *[""] * (len(rows[0]) - 1))
    return [*rows[: shown - 1], rest]
