"""Rules of a table as polars expressions, and the violations of a whole table at once.

A rule is a column to name, an expression that is true on the rows that break it (null: kept), and what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import polars as pl

from engine.domain.errors import Violation
from engine.domain.limits import MAX_LIST_LENGTH, MAX_TEXT_LENGTH

Rule = tuple[str, pl.Expr, str]

MAX_LISTED = 20
"""Violations listed per rule: a broken million-row file should answer with a page, not with a million lines."""

TEXT_RULE = f"must be 1 to {MAX_TEXT_LENGTH} printable characters without surrounding spaces"


def violations_of(frame: pl.DataFrame, table: str, rules: Iterable[Rule]) -> list[Violation]:
    """Every broken rule with its rows (0-based), the count of those beyond MAX_LISTED in one line."""
    rules = list(rules)
    broken = frame.select(
        expression.fill_null(False).any().alias(str(index)) for index, (_, expression, _) in enumerate(rules)
    ).row(0)
    found = [rule for rule, is_broken in zip(rules, broken, strict=True) if is_broken]
    return [violation for rule in found for violation in _listed(frame, table, *rule)]


def bad_text(text: pl.Expr) -> pl.Expr:
    """Whether a text breaks TEXT_RULE; null stays null."""
    untidy = text.str.contains(r"[\p{C}\p{Zl}\p{Zp}]|^\s|\s$")
    return (text.str.len_chars() == 0) | (text.str.len_chars() > MAX_TEXT_LENGTH) | untidy


def text_rule(column: str, optional: bool = False) -> Rule:
    """A tidy text; a missing one is broken unless `optional`."""
    broken = bad_text(pl.col(column))
    return column, broken if optional else pl.col(column).is_null() | broken, TEXT_RULE


def texts_rules(column: str) -> tuple[Rule, Rule]:
    """A list, possibly null, of not too many tidy texts."""
    names, name = pl.col(column), pl.element()
    unwell = names.list.eval(name.is_null() | bad_text(name)).list.any()
    return (
        (column, unwell, f"holds an entry that {TEXT_RULE}"),
        (column, names.list.len() > MAX_LIST_LENGTH, f"has more than {MAX_LIST_LENGTH:,} entries"),
    )


def range_rule(column: str, low: float, high: float, optional: bool = False) -> Rule:
    """A number in [low, high], not NaN if the bounds are floats; a missing one is broken unless `optional`."""
    value = pl.col(column)
    outside = ~value.is_between(low, high)
    if isinstance(low, float):
        outside = outside | value.is_nan()
    if not optional:
        outside = value.is_null() | outside
    return column, outside, f"must be between {low:,} and {high:,}"


def grade_rule(column: str, grades: type[IntEnum], optional: bool = False) -> Rule:
    """One of the names of `grades`; a missing one is broken unless `optional`."""
    known = list(grades.__members__)
    unknown = ~pl.col(column).is_in(known)
    broken = unknown if optional else pl.col(column).is_null() | unknown
    return column, broken, f"is not one of {', '.join(known)}"


def duplicate_rule(column: str, key: pl.Expr) -> Rule:
    """No two rows have the same key; rows without one are not compared."""
    return column, key.is_duplicated() & pl.col(column).is_not_null(), "is a duplicate"


def _listed(frame: pl.DataFrame, table: str, column: str, broken: pl.Expr, rule: str) -> list[Violation]:
    rows = frame.select(broken.fill_null(False).arg_true()).to_series()
    where = f"{table} row {{}} column {column}"
    values = frame[column].gather(rows.head(MAX_LISTED)).to_list()
    listed = [
        Violation(where.format(row), f"{_shown(value)} {rule}")
        for row, value in zip(rows.head(MAX_LISTED), values, strict=True)
    ]
    if rows.len() > MAX_LISTED:
        listed.append(Violation(f"{table} column {column}", f"{rows.len() - MAX_LISTED} more rows: {rule}"))
    return listed


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
