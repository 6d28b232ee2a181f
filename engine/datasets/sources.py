"""Reading the files of outside sources, and saying what is wrong with them.

Every importer states the columns it needs and their types; a file that is missing, unreadable or holds a value
of another type is InvalidInput, named by folder, file, row (0-based, header not counted) and column. Columns
that nobody asked for are dropped. Rules of one source stay in its importer and are checked by `require`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from engine.domain.errors import InvalidInput, Violation

Columns = dict[str, pl.DataType]
MAX_LISTED = 20


def read_csv(
    path: Path, columns: Columns, *, separator: str = ",", header: list[str] | None = None
) -> pl.DataFrame:
    """Read a text table; `header` names the columns of a file that has no header line."""

    def read() -> pl.DataFrame:
        frame = pl.read_csv(path, separator=separator, has_header=header is None, infer_schema=False)
        return frame.rename(dict(zip(frame.columns, header, strict=True))) if header is not None else frame

    return typed(_read(path, read), columns, path)


def read_parquet(path: Path, columns: Columns) -> pl.DataFrame:
    """Read a Parquet table; text columns that should be numbers are parsed."""
    return typed(_read(path, lambda: pl.read_parquet(path)), columns, path)


def read_records(path: Path, columns: Columns) -> pl.DataFrame:
    """Read a JSON list of objects."""

    def read() -> pl.DataFrame:
        records: list[dict[str, Any]] = json.loads(path.read_bytes())
        if not isinstance(records, list):
            raise TypeError("not a list of objects")
        return pl.DataFrame({name: [record[name] for record in records] for name in columns}, strict=False)

    return typed(_read(path, read), columns, path)


def typed(frame: pl.DataFrame, columns: Columns, path: Path) -> pl.DataFrame:
    """The wanted columns in their types; InvalidInput names rows whose value does not parse.

    Null stays null: whether a column may be empty is the importer's rule.
    """
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise InvalidInput([Violation(f"{_shown(path)} column {name}", "is missing") for name in absent])
    cast = frame.select(_parsed(name, frame.schema[name], dtype) for name, dtype in columns.items())
    for name, dtype in columns.items():
        broken = cast[name].is_null() & frame[name].is_not_null()
        reject(broken, cast[name], path, name, f"is not a value of type {dtype}", shown=frame[name])
    return cast


def _parsed(name: str, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    text = pl.col(name).str.strip_chars() if found == pl.String else pl.col(name)
    return text.cast(wanted, strict=False)


def require(frame: pl.DataFrame, path: Path, column: str, rule: pl.Expr, description: str) -> None:
    """InvalidInput naming the rows of `frame` where `rule` is false or null."""
    kept = frame.select(rule.fill_null(False)).to_series()
    reject(~kept, frame[column], path, column, description)


def reject(
    broken: pl.Series, values: pl.Series, path: Path, column: str, text: str, *, shown: pl.Series | None = None
) -> None:
    """InvalidInput naming the first rows where `broken` is true; nothing if there are none."""
    rows = broken.arg_true()
    if rows.len() == 0:
        return
    source = values if shown is None else shown
    listed = [
        Violation(f"{_shown(path)} row {row} column {column}", f"{source[row]!r} {text}")
        for row in rows.head(MAX_LISTED).to_list()
    ]
    if rows.len() > MAX_LISTED:
        listed.append(Violation(f"{_shown(path)} column {column}", f"{rows.len() - MAX_LISTED} more rows: {text}"))
    raise InvalidInput(listed)


def _read(path: Path, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    try:
        return read()
    except FileNotFoundError:
        raise InvalidInput([Violation(_shown(path), "no such file")]) from None
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        first_line = str(error).partition("\n")[0][:120]
        raise InvalidInput([Violation(_shown(path), f"cannot be read: {first_line}")]) from None


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
